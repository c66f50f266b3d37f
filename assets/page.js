// gradio says its own words ("Drop File Here") in the browser's language, which need not be the page's.
Object.defineProperty(navigator, "language", { value: document.documentElement.lang });

// gradio names the empty place of a plot without giving it a role, and screen readers then skip the name.
{
  let frame = 0;
  new MutationObserver(() => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      for (const place of document.querySelectorAll(".empty[aria-label]:not([role])")) place.setAttribute("role", "img");
    });
  }).observe(document, { childList: true, subtree: true });
}
