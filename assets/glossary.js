// Terms of the field are underlined where they stand on a tab, and explained on hover, on focus and on a tap.
// window.glossary holds them by name: [forms with a bar between them, * for any ending; explanation].
{
  const IN = '[data-testid="block-info"], .label-text, .prose, .md, .html-container';
  const OUT =
    "button, a, summary, textarea, select, code, pre, svg, q, blockquote, mark, dfn, style, script, [lang]:not(html), [role=tab], " +
    ".terms, .bubble-wrap, .table-wrap, .cm-editor, .samples, .replies, .row-text, .synth-row, .latest, .mosaic, label:has(input[type=radio])";
  const texts = new Map(); // what is shown: the framework's own text node, which is empty meanwhile
  const forms = Object.entries(window.glossary || {}).flatMap(([name, [written]]) => written.split("|").map((form) => [form, name]));
  forms.sort(([one], [other]) => other.length - one.length); // "LoRA+" before "LoRA"
  const source = (form) => form.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*/g, "\\p{L}*").replace(/ /g, "\\s+");
  let pattern, frame = 0;
  const pending = new Set();

  const look = () => {
    frame = 0;
    pattern ||= new RegExp(`(?<![\\p{L}\\d_])(?:${forms.map(([form]) => `(${source(form)})`).join("|")})(?![\\p{L}\\d_])`, "giu");
    for (const [shown, text] of texts) if (!text.isConnected || !shown.isConnected || text.data) undo(shown, text);
    for (const node of pending) if (node.isConnected) walk(node);
    pending.clear();
  };
  const undo = (shown, text) => {
    texts.delete(shown);
    shown.remove();
    if (text.isConnected && !text.data) text.data = shown.textContent;
    if (text.isConnected) pending.add(text);
  };
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return mark(node);
    if (!node.closest || node.closest(OUT)) return;
    const found = [], step = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    while (step.nextNode()) found.push(step.currentNode);
    found.forEach(mark);
  };
  // A term is marked once in a field or a text.
  const mark = (text) => {
    const place = text.data.trim() && text.parentElement?.closest(IN);
    if (!place || !place.closest("[role=tabpanel]") || text.parentElement.closest(OUT)) return;
    const block = text.parentElement.closest(".block, [role=tabpanel]"), parts = [];
    let end = 0;
    for (const found of text.data.matchAll(pattern)) {
      const name = forms[found.findIndex((one, at) => at && one !== undefined) - 1][1];
      if (parts.some((part) => part.dataset?.term === name) || block.querySelector(`dfn[data-term="${name}"]`)) continue;
      const term = Object.assign(document.createElement("dfn"), { className: "term", textContent: found[0], tabIndex: 0 });
      term.dataset.term = name;
      parts.push(text.data.slice(end, found.index), term);
      end = found.index + found[0].length;
    }
    if (!parts.length) return;
    const shown = Object.assign(document.createElement("span"), { className: "terms" });
    shown.append(...parts, text.data.slice(end));
    texts.set(shown, text);
    text.data = "";
    text.before(shown);
  };
  if (forms.length) {
    const idle = window.requestIdleCallback || setTimeout;
    new MutationObserver((records) => {
      for (const { type, target, addedNodes } of records) {
        if (type === "characterData" && target.data) pending.add(target);
        for (const node of addedNodes) if (!node.classList?.contains("terms")) pending.add(node);
      }
      if (pending.size) frame ||= idle(look, { timeout: 1000 });
    }).observe(document, { childList: true, characterData: true, subtree: true });
  }

  const told = document.createElement("div");
  told.id = "term-told";
  told.setAttribute("role", "tooltip");
  let now, later;
  const show = (term) => {
    clearTimeout(later);
    if (term === now) return;
    hide();
    now = term;
    told.textContent = window.glossary[term.dataset.term][1];
    (term.closest("main") || document.body).append(told); // in the landmark, where a screen reader looks for it
    term.setAttribute("aria-describedby", told.id);
    const box = term.getBoundingClientRect(), below = box.bottom + 4;
    told.style.left = `${Math.max(8, Math.min(box.left, innerWidth - told.offsetWidth - 8))}px`;
    told.style.top = `${below + told.offsetHeight < innerHeight ? below : Math.max(8, box.top - told.offsetHeight - 4)}px`;
  };
  const hide = () => {
    clearTimeout(later);
    now?.removeAttribute("aria-describedby");
    told.remove();
    now = null;
  };
  const term = (event) => event.target.closest?.("dfn.term");
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    if (term(event)) show(term(event));
    else if (event.target === told) clearTimeout(later); // an explanation may be pointed at, and read there
    else if (now && now !== document.activeElement) later = setTimeout(hide, 200);
  });
  document.addEventListener("focusin", (event) => (term(event) ? show(term(event)) : now && hide()));
  document.addEventListener("keydown", ({ key }) => key === "Escape" && now && hide());
  document.addEventListener("scroll", () => now && hide(), true);
  // A finger that comes down elsewhere takes the explanation away, and so does a second tap; the first one has given the
  // term the focus, and shown it, before its click comes.
  let open, touched;
  document.addEventListener("pointerdown", (event) => {
    open = now;
    touched = event.pointerType === "touch";
    if (touched && now && !term(event) && event.target !== told) hide();
  }, true);
  document.addEventListener("click", (event) => {
    if (!term(event)) return now && event.target !== told && hide();
    if (touched) event.preventDefault(); // or its label would take the tap
    if (touched && open === term(event)) hide();
    else show(term(event));
  });
}
