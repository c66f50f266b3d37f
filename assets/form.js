// The settings of the Training tab: groups, search, marks of what differs from the defaults, and a draft of them that
// this browser keeps over a reload.
window.draft = {
  KEY: "soulsmith-training",
  CHOSEN: ["base_model", "corpus", "method", "task", "name"], // kept as they are; a setting where it is no default
  ready: false, // a draft that waits is not written over before it was read
  found: false, // what differs comes from a draft
  asked: [], // the settings that go back to their defaults
  names: [],
  values: {},
  usual: {},
  // A field has changed, or the defaults have.
  seen(names, usual, ...values) {
    this.names = names;
    this.usual = JSON.parse(usual);
    this.values = Object.fromEntries(names.map((name, at) => [name, values[at]]));
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.mark();
    });
    clearTimeout(this.later);
    this.later = setTimeout(() => this.keep(), 300);
  },
  differs(name) {
    const plain = (value) => JSON.stringify(value === null || value === undefined || value.length === 0 ? "" : value);
    return name in this.usual && plain(this.values[name]) !== plain(this.usual[name]);
  },
  mark() {
    const told = document.querySelector("#changes-told");
    const changed = this.names.filter((name) => this.differs(name));
    for (const name of Object.keys(this.usual)) {
      const field = document.getElementById("setting-" + name);
      if (field) this.markOne(field, name, changed.includes(name), told);
    }
    for (const pill of document.querySelectorAll("#settings-groups label")) {
      const group = document.getElementById("settings-" + pill.querySelector("input").value);
      pill.dataset.count = group ? group.querySelectorAll(".differs").length || "" : "";
    }
    if (!told) return;
    document.querySelector("#settings-changes").classList.toggle("none", !changed.length);
    const words = this.found ? told.dataset.draft : told.dataset.changed;
    told.textContent = changed.length ? `${words} ${changed.length}` : "";
  },
  markOne(field, name, differs, told) {
    field.classList.toggle("differs", differs);
    let button = field.querySelector(":scope > .setting-reset");
    if (!differs || !told) return button?.remove();
    if (!button) {
      button = Object.assign(document.createElement("button"), { type: "button", className: "setting-reset" });
      button.onclick = () => {
        this.asked = [name];
        document.querySelector("#setting-reset").click();
      };
      field.append(button);
    }
    const value = this.usual[name];
    const shown = typeof value === "boolean" ? "" : String(value ?? "");
    button.textContent = "↺ " + shown;
    button.title = told.dataset.reset + " " + (shown || (value === true ? "✓" : "–"));
  },
  // The values of all fields, with the defaults in those that were asked for, or in all.
  back(asked) {
    const goes = (name) => name in this.usual && (!asked || asked.includes(name));
    const values = this.names.map((name) => (goes(name) ? this.usual[name] : this.values[name]));
    this.found = false;
    this.seen(this.names, JSON.stringify(this.usual), ...values); // what is folded away says nothing of a change
    return values;
  },
  find(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let fitting = 0;
    for (const group of document.querySelectorAll("#training-more .settings")) {
      let here = 0;
      for (const field of group.querySelectorAll("[id^=setting-]")) {
        const about = (field.id.slice(8) + " " + field.textContent).toLowerCase();
        const fits = words.every((word) => about.includes(word));
        field.classList.toggle("unfit", !fits);
        here += fits;
      }
      group.classList.toggle("unfit", !here);
      fitting += here;
    }
    const more = document.querySelector("#training-more");
    more.classList.toggle("searched", words.length > 0);
    more.classList.toggle("fruitless", !fitting);
  },
  group(chosen) {
    for (const group of document.querySelectorAll("#training-more .settings")) {
      group.classList.toggle("other", chosen !== "all" && group.id !== "settings-" + chosen);
    }
  },
  // What differs, and what is chosen, is kept; the exact config is asked for again where it is in sight.
  keep() {
    if (document.querySelector("#training-exact .label-wrap.open")) document.querySelector("#exact-again").click();
    if (!this.ready) return;
    const kept = this.names.filter((name) => this.CHOSEN.includes(name) || this.differs(name));
    this.store(Object.fromEntries(kept.map((name) => [name, this.values[name]])));
  },
  store(values) {
    try {
      localStorage.setItem(this.KEY, JSON.stringify(values));
    } catch {
      // a browser that keeps nothing
    }
  },
  kept() {
    try {
      return localStorage.getItem(this.KEY) || "";
    } catch {
      return "";
    }
  },
  // Called whenever the tab was filled: the draft is restored once.
  restore() {
    if (this.ready) return;
    if (this.kept()) document.querySelector("#draft-restore")?.click();
    else this.ready = true;
  },
  restored() {
    this.ready = true;
    this.found = this.names.some((name) => this.differs(name));
  },
  // The form is filled with something else: the draft that waits is none any more.
  taken(given) {
    this.ready = true;
    return given;
  },
  without(corpus) {
    if (corpus && !this.ready && this.kept()) {
      try {
        const { method, task, ...rest } = JSON.parse(this.kept());
        this.store({ ...rest, corpus });
      } catch {
        this.store({ corpus });
      }
    }
    return corpus;
  },
};
