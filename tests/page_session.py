"""A window of the page without a browser: the handlers that app.py wired are called in a browser's order and way.

Gradio's own process_api does what a request does: it turns a component's payload into the handler's arguments and the
result into JSON. What a browser adds is here: values by component, `change` after a value changed, `.then` chains.
"""

import asyncio
import json
import re

from gradio.exceptions import Error
from gradio.state_holder import SessionState

MOST_EVENTS = 400  # that may follow from one: a circle of changes would never end
# What no sentence may hold: a value that was not known, or a memory of nothing.
CODE = re.compile(r"`[^`]*`")  # a recipe's own words may stand in braces
UNREADABLE = re.compile(
    r"\bNone\b|\bNaN\b|(?<!became )(?<!стал )\bnan\b|\binf\b|Traceback|\{[a-z_]+\}"
    r"|(?<![\d.,\u00a0])(?<!\+ )0([.,]0+)?[\s\u00a0](GiB|ГиБ|of|из)\b"
)


class Session:
    """A page that somebody has open: `open()`, then `select`, `fire`, `tick`; `texts()` is all that can be read."""

    def __init__(self, page):
        self.page, self.state = page, SessionState(page)
        self.parts = {id: block.get_config() for id, block in page.blocks.items() if hasattr(block, "get_config")}
        for id in self.ids("textbox"):  # an empty one is an empty text in a browser
            self.parts[id]["value"] = self.parts[id].get("value") or ""
        self.refused: list[str] = []

    def open(self) -> None:
        """What a browser does first, every load event, and then a look at each tab."""
        self._run([fn for fn in self.page.fns.values() for _, event in fn.targets if event == "load"])
        for tab in self.ids("tabitem"):
            self.fire(tab, "select")

    def select(self, tab: str) -> None:
        """Click on a tab, by its id."""
        self.fire(self.find("tabitem", id=tab), "select")

    def tick(self) -> None:
        """Let every timer that is active go off once."""
        for id in self.ids("timer"):
            if self.parts[id].get("active") and not isinstance(self.parts[id].get("value"), dict):
                self.fire(id, "tick")

    def expand(self) -> None:
        """Open everything that is folded away."""
        for id in self.ids("accordion"):
            self.fire(id, "expand")

    def put(self, id: int, value, event: str = "input") -> None:
        """Choose or type a value."""
        self.parts[id]["value"] = value
        self.fire(id, event)
        self.fire(id, "change")

    def click(self, words: str) -> None:
        """Press the button with these words."""
        self.fire(self.find("button", value=words), "click")

    def fire(self, id: int, event: str) -> None:
        self._run(self._listeners(id, event))

    def find(self, kind: str, tab: str = "", **props) -> int:
        """The id of the first component of a kind with these properties, in the order of the page; of one tab."""
        fits = (id for id in self.ids(kind) if all(self.parts[id].get(name) == props[name] for name in props))
        return next(id for id in fits if not tab or tab in self._tabs_of(id))

    def _tabs_of(self, id: int) -> list[str]:
        block, found = self.page.blocks[id], []
        while block := block.parent:
            found.append(getattr(block, "id", None))
        return found

    def ids(self, kind: str) -> list[int]:
        return [id for id, block in self.page.blocks.items() if block.get_block_name() == kind and id in self.parts]

    def texts(self) -> list[str]:
        """Every sentence that stands on the page now."""
        return [text for id in self.parts for text in readable(self.parts[id], self.page.blocks[id].get_block_name())]

    def figures(self) -> list[dict]:
        """Every plot that is drawn now, as JSON."""
        return [json.loads(self.parts[id]["value"]["plot"]) for id in self.ids("plot") if self.parts[id].get("value")]

    def unreadable(self) -> list[str]:
        return [text for text in self.texts() if UNREADABLE.search(CODE.sub("", text))]

    def _listeners(self, id: int, event: str) -> list:
        return [fn for fn in self.page.fns.values() if (id, event) in [tuple(target) for target in fn.targets]]

    def _run(self, waiting: list) -> None:
        done = 0
        while waiting:
            assert (done := done + 1) < MOST_EVENTS, "changes go round in a circle"
            fn = waiting.pop(0)
            changed, succeeded = self._call(fn)
            for id in changed:
                waiting += self._listeners(id, "change")
            later = [one for one in self.page.fns.values() if one.trigger_after == fn._id]
            waiting += [one for one in later if succeeded or not one.trigger_only_on_success]

    def _call(self, fn) -> tuple[list[int], bool]:
        """Call one handler to its end; the ids of what changed by it, and whether it was not refused."""
        if fn.fn is None or fn.collects_event_data:  # JavaScript alone; a click into a table or a message
            return [], True
        changed, iterator = [], None
        while True:
            inputs = [self.parts.get(block._id, {}).get("value") for block in fn.inputs]
            try:
                asked = self.page.process_api(fn, inputs, state=self.state, iterator=iterator, explicit_call=True)
                result = self.loop(asked)
            except Error as refusal:
                self.refused.append(str(refusal))
                return changed, False
            changed += self._put_in(fn, result)
            iterator = result.get("iterator")
            if not result.get("is_generating"):
                return list(dict.fromkeys(changed)), True

    def _put_in(self, fn, result: dict) -> list[int]:
        changed = list(result.get("changed_state_ids") or [])
        for block, given in zip(fn.outputs, result["data"], strict=True):
            if block.stateful:
                continue
            part = self.parts.setdefault(block._id, {})
            new = given if isinstance(given, dict) and given.get("__type__") == "update" else {"value": given}
            if "value" in new and new["value"] != part.get("value"):
                changed.append(block._id)
            part |= {name: value for name, value in new.items() if name != "__type__"}
        return changed

    def loop(self, asked):
        if not hasattr(self, "_events"):
            self._events = asyncio.new_event_loop()
        return self._events.run_until_complete(asked)


def readable(props: dict, kind: str) -> list[str]:
    """What a person reads of a component: labels, help, HTML and Markdown, choices, cells, words of a plot; no log."""
    found = [props.get("label"), props.get("info"), props.get("placeholder")]
    value = props.get("value")
    if kind == "plot":
        found += words_of(json.loads(value["plot"])) if value else []
    elif kind == "dataframe":
        found += [cell for row in (value or {}).get("data", []) for cell in row]
    elif kind in ("html", "markdown", "textbox", "button") and isinstance(value, str):
        found.append(value)
    found += [choice[0] for choice in props.get("choices") or [] if isinstance(choice, (list, tuple))]
    return [text for text in found if isinstance(text, str) and text]


def words_of(figure: dict) -> list[str]:
    """Titles, names, annotations and tick labels of a plot."""
    layout = figure["layout"]
    found = [trace.get("name") for trace in figure["data"]]
    found += [one.get("text") for one in layout.get("annotations", [])]
    for name, axis in layout.items():
        if name.startswith(("xaxis", "yaxis")):
            found += [axis.get("title", {}).get("text"), *axis.get("ticktext", [])]
    return [text for text in found if text]
