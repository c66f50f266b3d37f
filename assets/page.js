// gradio says its own words ("Drop File Here") in the browser's language, which need not be the page's.
Object.defineProperty(navigator, "language", { value: document.documentElement.lang });

// gradio names the empty place of a plot without giving it a role, and screen readers then skip the name. Its
// tables are scrolled by a mouse alone, and by the arrow keys too once a cell of theirs can have the focus. And it has
// tooltips and names in English only: window.framework says them in the page's language, * for what follows.
{
  let frame = 0;
  const words = window.framework || {}, beginnings = Object.keys(words).filter((key) => key.endsWith("*"));
  const said = (english) => {
    const key = english in words ? english : beginnings.find((one) => english.startsWith(one.slice(0, -1)));
    return key && words[key].replace("*", english.slice(key.length - 1));
  };
  const named = Object.keys(words).length ? "[aria-label], [title]" : "";
  new MutationObserver(() => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      for (const place of document.querySelectorAll(".empty[aria-label]:not([role])")) place.setAttribute("role", "img");
      for (const cell of document.querySelectorAll(".virtual-table-viewport th.first-column[tabindex='-1']")) cell.tabIndex = 0;
      for (const node of named ? document.querySelectorAll(named) : []) {
        for (const name of ["aria-label", "title"]) {
          const own = node.getAttribute(name), ours = own && said(own);
          if (ours && ours !== own) node.setAttribute(name, ours);
        }
      }
    });
  }).observe(document, { childList: true, subtree: true });
}

// Two calls of one event can overtake each other on their way, and the older answer, come last, would stay on the page:
// each goes when the one before it has been taken. And gradio, which ends its stream of answers with the last of them,
// may be told so only after it has joined another event to that stream, whose answer would never come: it is told first.
{
  const send = window.fetch, taken = new Map(), AFTER = 40; // milliseconds
  window.fetch = (address, options) => {
    const event = typeof options?.body === "string" && /"fn_index":(\d+)/.exec(options.body)?.[1];
    if (!event) return send(address, options);
    const sent = (taken.get(event) ?? Promise.resolve()).then(() => send(address, options));
    taken.set(event, sent.catch(() => {}));
    return sent.then((answer) => new Promise((done) => setTimeout(done, AFTER, answer)));
  };
}

// The tab and what is chosen on it stand in the address (#training/RUN): Back, bookmarks and a reload find them again.
const place = {
  ready: false, // the first tab is selected before the address was read, and would overwrite it
  clicks: 0, // of the person: what was clicked meanwhile goes before what was asked for
  turned: false, // whether the person has turned to one of the tabs within this tab
  read() {
    try {
      const [tab, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
      return { tab, pick: rest.join("/") };
    } catch {
      return { tab: "", pick: "" }; // an address that was cut in the middle of a letter
    }
  },
  // The tabs' own first choice can come later than this one: asked again until it holds.
  go(tabs) {
    const { tab } = this.read();
    const known = tabs.includes(tab), { clicks } = this;
    const first = this.ready || !clicks ? tabs[0] : this.seen();
    this.ready = true;
    this.tabs = tabs;
    setTimeout(() => {
      if (clicks === this.clicks && known && tab === this.read().tab && tab !== this.seen()) this.click("#place-moved");
    }, 200);
    return { __type__: "update", selected: known ? tab : first };
  },
  seen() {
    return document.querySelector("[role=tab][aria-selected=true]")?.dataset.tabId;
  },
  click(button) {
    document.querySelector(button)?.click();
  },
  // Open one of the tabs within a tab, which the server names late: after the person's own click it comes too late.
  turn(wanted) {
    const selected = Number(wanted) || wanted;
    return { __type__: "update", ...(wanted && !this.turned && { selected }) };
  },
  asked(tab) {
    const here = this.read();
    return here.tab === tab ? here.pick : "";
  },
  async opened(tab, pick) {
    await new Promise((done) => setTimeout(done, 50)); // a tab that was selected for a moment only is none
    if (!this.ready || this.seen() !== tab) return;
    const here = this.read();
    if (here.tab !== tab || (pick && !here.pick)) this.write(tab, pick, here.tab === tab);
  },
  picked(tab, pick) {
    const here = this.read();
    if (this.ready && here.tab === tab && pick && pick !== here.pick) this.write(tab, pick, !here.pick);
  },
  write(tab, pick, instead = false) {
    const hash = "#" + encodeURIComponent(tab) + (pick ? "/" + encodeURIComponent(pick) : "");
    history[instead ? "replaceState" : "pushState"](null, "", hash);
    this.here = tab;
  },
  moved() {
    this.turned = false;
    this.click("#place-moved");
    const { tab } = this.read();
    if (tab === this.here) this.click(`#place-${CSS.escape(tab)}`); // else the tab fills itself
    this.here = tab;
  },
};
window.place = place;
addEventListener("click", ({ isTrusted, target }) => {
  if (!isTrusted) return;
  place.clicks += 1;
  const label = target.closest?.("[role=tab]"), tab = label?.dataset.tabId;
  if (label) place.turned = !place.tabs?.includes(tab);
  // At once: a link of the page may be next.
  if (place.tabs?.includes(tab) && place.read().tab !== tab) place.write(tab, "");
}, true);
// A click of the page's own is none beside an open menu, which gradio would close.
document.addEventListener("click", (event) => event.isTrusted || event.stopPropagation());
addEventListener("popstate", () => place.moved()); // an address that was typed comes as one too

// What is typed in the chat and has not been sent is there again after a reload. A browser may keep nothing.
const message = {
  KEY: "soulsmith-message",
  left: "",
  typed(text) {
    try {
      sessionStorage.setItem(this.KEY, text);
    } catch {}
  },
  // Once, when the tab has been filled: a question that nobody has answered may stand in the field by then.
  restored(text) {
    const { left } = this;
    this.left = "";
    return text || left;
  },
};
try {
  message.left = sessionStorage.getItem(message.KEY) || "";
} catch {}
window.message = message;

// A list that takes any text: Enter takes what was typed, and what is marked in the list only after an arrow key. Gradio
// marks the first entry that contains the text, so that "RTX 4070" became an RTX 4070 Ti SUPER.
addEventListener("keydown", (event) => {
  const input = event.target;
  if (!event.isTrusted || !input.closest?.(".typed")) return;
  if (event.key === "Enter" && !input.dataset.marked) {
    event.stopPropagation();
    event.preventDefault();
    input.blur();
  } else if (event.key.startsWith("Arrow")) input.dataset.marked = "yes";
  else delete input.dataset.marked;
}, true);

// A list that is refilled while it is open: gradio shows all of it again, whatever was typed to find an entry, and marks
// what stands at the marked place by then, or nothing. Its own keys let it look again, and go back to the marked entry.
{
  let typed = false, marked = "", keys = 0, frame = 0;
  const active = (list) => list.querySelector(".active")?.ariaLabel ?? "";
  const opened = () => {
    const input = document.activeElement;
    const list = input?.matches("input[role=combobox]") && document.getElementById(input.getAttribute("aria-controls"));
    return list && { input, list };
  };
  const press = async (input, key) => {
    input.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await new Promise(requestAnimationFrame);
  };
  const look = async () => {
    frame = 0;
    const { input, list } = opened() || {}, wanted = marked, before = keys;
    const found = list ? [...list.querySelectorAll("[role=option]")].map((one) => one.ariaLabel) : [];
    if (!found.length) return;
    const text = typed ? input.value.toLowerCase() : "";
    const moved = found.includes(wanted) && active(list) !== wanted;
    if (!moved && !(text && (!active(list) || found.some((name) => !name.toLowerCase().includes(text))))) return;
    await press(input, "Home");
    for (let at = found.length; at && found.includes(wanted) && active(list) !== wanted && keys === before; at--) {
      await press(input, "ArrowDown");
    }
  };
  addEventListener("focusin", () => { typed = false; marked = ""; });
  addEventListener("input", ({ target }) => { typed ||= target === opened()?.input; });
  addEventListener("keydown", ({ isTrusted }) => { if (isTrusted) { keys += 1; marked = ""; } }, true);
  addEventListener("keyup", () => { marked = opened() ? active(opened().list) : ""; });
  new MutationObserver(() => { frame ||= requestAnimationFrame(look); }).observe(document, { childList: true, subtree: true });
}

// An SVG of the page, drawn with colours of its own, as a PNG of twice its size.
window.savePicture = (drawing) => {
  const shown = drawing.cloneNode(true);
  shown.removeAttribute("hidden");
  const { width, height } = drawing.viewBox.baseVal;
  const image = new Image();
  image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    const link = document.createElement("a");
    canvas.toBlob((blob) => {
      link.href = URL.createObjectURL(blob);
      link.download = `${drawing.dataset.name}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(shown));
};

// A button that copies what it holds, and says so for a moment.
document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("button.copy");
  if (!button || button.textContent === button.dataset.done) return;
  const words = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    const field = Object.assign(document.createElement("textarea"), { value: button.dataset.copy });
    document.body.append(field); // a page that came over plain HTTP has no clipboard of its own
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.textContent = button.dataset.done;
  setTimeout(() => (button.textContent = words), 1500);
});

// Every click is answered at once, however long the answer of the server takes.
document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("button, a.button, a.step");
  if (!button) return;
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 700);
}, true);
