// The chat: chips and kept conversations are clicked, columns are folded, and keys stand for buttons.
element.addEventListener("click", (event) => {
  const chip = event.target.closest(".chip"), kept = event.target.closest("[data-id]"), fold = event.target.closest(".fold");
  if (kept) {
    trigger("select", { id: kept.dataset.id });
    element.closest(".chat-side").removeAttribute("data-open"); // on a phone it covers the chat
  }
  if (chip) {
    const field = element.closest(".chat-main").querySelector(".composer textarea");
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(field, chip.dataset.prompt);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  }
  if (fold) {
    const column = fold.closest(".chat-column"), folded = column.toggleAttribute("data-folded");
    fold.setAttribute("aria-expanded", String(!folded));
    fold.title = fold.ariaLabel = folded ? fold.dataset.unfold : fold.dataset.fold;
  }
});

if (!window.chatKeys) {
  window.chatKeys = true;
  const seen = (selector) => [...document.querySelectorAll(selector)].find((one) => one.offsetParent && !one.disabled);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const stop = event.key === "Escape" && seen(".chat-stop");
    if (stop) stop.click();
    if (event.key !== "/" || event.target.closest("input, textarea, select, [contenteditable]")) return;
    const field = seen(".composer textarea");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  });
  // What is copied from a message is what was written: without the marks and signs that only its display needs.
  let copied = 0, reply = false; // a person's own message and the code of a block hold no other sign than \u200b
  document.addEventListener("click", ({ target }) => {
    if (!target.closest(".chat-column")) return;
    copied = Date.now();
    reply = !target.closest(".message-buttons-right, .copy_code_button");
  }, true);
  const write = navigator.clipboard?.writeText.bind(navigator.clipboard);
  // CODE of ui/playground_show.py, which leaves code as it was written.
  const code = /(```[^]*?(?:```|$)|(?<![`\\])(?:``[^\n]*?``|`[^`\n]*`)(?!`))/;
  const said = (part) =>
    part.replace(/<\/?mark>/g, "").replace(/!\\\[/g, "![").replace(/&lt;/g, "<").replace(/&amp;/g, "&");
  const plain = (text) => {
    const seen = text.replace(/\u200b/g, "");
    return reply ? seen.split(code).map((part, at) => (at % 2 ? part : said(part))).join("") : seen;
  };
  if (write) navigator.clipboard.writeText = (text) => write(Date.now() - copied < 1000 ? plain(text) : text);
}
