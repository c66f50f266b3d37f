// A plot that is drawn anew is a new node on the page. The old one would never be freed: its listener for the window's
// size holds it, twenty thousand nodes a minute. And the new one would have lost the zoom, and the width of its place
// if it was drawn while that was folded.
() => {
  if (window.soulsmithPlots) return;
  const zooms = (window.soulsmithPlots = new Map());
  const place = (node) => node.closest('[id^="component-"]')?.id;
  const key = (where, plot) => `${where} ${plot.layout?.uirevision}`;

  const sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const plot = target.querySelector(".js-plotly-plot");
      const off = contentRect.width && Math.abs(contentRect.width - (plot?._fullLayout?.width ?? contentRect.width)) > 4;
      if (off) window.Plotly.Plots.resize(plot);
    }
  });

  const leave = (plot, where) => {
    const axes = Object.entries(plot._fullLayout || {}).filter(([name]) => /^[xy]axis\d*$/.test(name));
    const zoomed = axes.filter(([, axis]) => axis.autorange === false);
    const kept = zoomed.map(([name, axis]) => ({ name, type: axis.type, range: [...axis.range] }));
    if (plot.layout?.uirevision !== undefined) zooms.set(key(where, plot), kept);
    setTimeout(() => window.Plotly?.purge(plot), 1000); // not in the middle of a drawing that is still going on
  };

  const arrive = (plot) => {
    if (plot.parentElement) sizes.observe(plot.parentElement);
    const kept = zooms.get(key(place(plot), plot)) || [];
    const same = kept.filter(({ name, type }) => plot._fullLayout?.[name]?.type === type);
    if (same.length) window.Plotly.relayout(plot, Object.fromEntries(same.map(({ name, range }) => [`${name}.range`, range])));
  };

  new MutationObserver((records) => {
    for (const { target, addedNodes, removedNodes } of records) {
      for (const node of removedNodes) {
        if (node.nodeType !== Node.ELEMENT_NODE || node.isConnected) continue;
        const plots = [...node.querySelectorAll(".js-plotly-plot")];
        if (node.matches(".js-plotly-plot")) plots.push(node);
        plots.forEach((plot) => leave(plot, place(target)));
        plots.forEach((plot) => plot.parentElement && sizes.unobserve(plot.parentElement));
      }
      for (const node of addedNodes) {
        if (node.nodeType === Node.ELEMENT_NODE && node.matches(".plot-container")) setTimeout(() => arrive(target), 0);
      }
    }
  }).observe(document.body, { childList: true, subtree: true });
}
