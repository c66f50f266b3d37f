"""One row of a chain, made: a generator of what is asked of models, which ends in rows or in why there are none."""

from collections.abc import Generator
from dataclasses import dataclass

from core.synth import chain_checks, chain_steps, chain_templates, chain_verdicts, prompts, replies
from core.synth.chain_steps import Chain, Step
from core.synth.replies import Reply

UNREADABLE = 2  # verdicts of a judge that cannot be read before a row is set aside
JUDGE_TOKENS = 300


@dataclass(frozen=True)
class Ask:
    """A prompt for the writer, or for the judge; `call` counts those of a row."""

    call: int
    messages: list[dict]
    options: dict
    judge: bool = False


class Aside(Exception):
    """A row that is set aside: the reason, what it was, and the text."""

    def __init__(self, reason: str, detail: str = "", excerpt: str = ""):
        super().__init__(reason)
        self.reason, self.detail, self.excerpt = reason, detail, excerpt


class Walk:
    """The way of one row through the steps of a chain; `plans` are the drawn values of its plan steps."""

    def __init__(self, chain: Chain, recipe_values: dict, lang: str, plans: dict, given: dict | None = None):
        given = given or {}  # the rows that a person kept and rejected; of a recipe with material, passage and names
        self.examples = given.pop("examples", None) or {}
        self.nearness = given.pop("nearness", None)
        self.chain, self.recipe, self.lang, self.plans = chain, recipe_values, lang, plans
        self.values = {"cards": recipe_values.get("cards") or {}, "lang": lang, "names": []} | given
        self.prompts: dict[str, Ask] = {}
        self.faults: dict[str, list[tuple[str, str]]] = {}
        self.rewritten: list[str] = []
        self.scores: dict[str, dict] = {}
        self.judged: set[str] = set()  # judges that kept the row
        self.at = self.calls = self.tokens_in = self.tokens_out = 0
        self.mending = False

    def asks(self) -> Generator[Ask, Reply, None]:
        """What is asked, a reply to be sent for each; `rows` are there when it ends.

        Raises:
            Aside: when the row cannot be kept. TemplateWrong: where a template fails with these values.
        """
        for at, step in enumerate(self.chain.steps):
            self.at = at
            yield from getattr(self, f"_{step.verb}")(step)

    def rows(self) -> list[dict]:
        """{"text"} or {"messages"} of each row, empty turns left out."""
        rows = []
        for row in self.chain.rows:
            if "text" in row:
                rows.append({"text": chain_templates.text(str(row["text"]), self.values)})
                continue
            turns = [(role, str(text)) for turn in row["messages"] for role, text in turn.items()]
            said = [{"role": role, "content": chain_templates.text(text, self.values)} for role, text in turns]
            rows.append({"messages": [turn for turn in said if turn["content"]]})
        return rows

    def names(self) -> list[str]:
        """The name of each row, "" for none."""
        return [chain_templates.text(str(row.get("name") or ""), self.values) for row in self.chain.rows]

    def _plan(self, step: Step):
        self.values[step.name] = self.plans[step.name]
        yield from ()

    def _write(self, step: Step):
        text = chain_templates.text(step.value, self.values)
        system = step.options.get("system", self.recipe.get("system"))
        messages = [{"role": "user", "content": text}]
        if system and (said := chain_templates.text(str(system), self.values)):
            messages = [{"role": "system", "content": said}, *messages]
        options = {key: step.options[key] for key in ("temperature", "max_tokens") if key in step.options}
        self.prompts[step.name] = Ask(0, messages, options)
        self.values[step.name], fault = yield from self._written(self.prompts[step.name], text)
        if fault:
            self._meet([step.name], [fault])

    def _written(self, ask: Ask, prompt: str):
        """(text, None) or ("", (reason, detail)) of one more call of the writer."""
        reply = yield from self._asked(ask.messages, ask.options)
        text, reason = replies.checked(reply, prompt, self.lang)
        self.last = reply.text or reply.detail
        return text, (reason, reply.detail[:200]) if reason else None

    def _asked(self, messages: list[dict], options: dict, judge: bool = False):
        reply = yield Ask(self.calls, messages, options, judge)
        self.calls += 1
        self.tokens_in, self.tokens_out = self.tokens_in + reply.tokens_in, self.tokens_out + reply.tokens_out
        return reply

    def _join(self, step: Step):
        self.values[step.name] = chain_templates.text(step.value, self.values)
        yield from ()

    def _check(self, step: Step):
        checks = (self.recipe.get("checks") or {}) | step.value
        values = {name: self._resolved(name, value) for name, value in checks.items()}
        given = chain_checks.Given(self.lang, self.chain.fields, values, self.nearness)
        for name in step.of:
            text = self.values[name]
            if text and (found := chain_checks.found(text, given)):
                self.last = text
                self._meet([name], found)
        yield from ()

    def _resolved(self, name: str, value):
        """The value of a check: expressions worked out, where texts are wanted a list of them."""
        if name in chain_steps.PARTS:
            texts, *numbers = chain_steps.PARTS[name]
            resolved = {part: self._resolved("words", value[part]) for part in numbers}
            return resolved | {texts: self._resolved("ban" if name == "few" else "apart", value[texts])}
        found = chain_templates.value(value, self.values) if isinstance(value, str) else value
        if name not in chain_steps.OF_TEXTS:
            return found
        if not isinstance(value, str):
            found = [chain_templates.value(str(one), self.values) for one in value]
        return [found] if isinstance(found, str) else [one for some in found for one in _listed(some)]

    def _judge(self, step: Step):
        if any(self.faults.get(name) for name in step.of):  # it is read when it has been mended
            return
        expected = chain_templates.value(step.value["expect"], self.values) if step.value.get("expect") else None
        rubric = chain_templates.text(step.value["rubric"], self.values)
        if expected is None:
            rubric = prompts.steered(rubric, self.examples, self.lang)
        messages = [{"role": "user", "content": rubric}]
        options = {"temperature": 0.0, "max_tokens": step.options.get("max_tokens", JUDGE_TOKENS)}
        verdict = None
        for _ in range(UNREADABLE):
            reply = yield from self._asked(messages, options, judge=True)
            if verdict := chain_verdicts.read(reply.text, step.value, expected):
                break
        if verdict is None:
            raise Aside("no_verdict", step.name, reply.text or reply.detail)
        self.scores[step.name] = verdict.scores
        if verdict.what == "keep":
            self.judged.add(step.name)
            return
        reason = "not_recognised" if expected is not None else "low_score"
        self.last = "\n".join(str(self.values[name]) for name in step.of)
        if verdict.what == "drop":
            raise Aside(reason, _told(verdict.scores), self.last)
        names = [verdict.worst] if verdict.worst in self._all_mendable() else list(step.of)
        self._meet(names, [(reason, verdict.why or _told(verdict.scores))])

    def _meet(self, names: list[str], faults: list[tuple[str, str]]) -> None:
        """Keep the faults for the next rewriting of one of these texts; without one the row is set aside."""
        mendable = [] if self.mending else self._all_mendable()
        name = next((one for one in reversed(names) if one in mendable), None)
        if name is None:
            reason, detail = faults[0]
            raise Aside(reason, ": ".join(filter(None, (names[-1], detail))), self.last)
        self.faults[name] = self.faults.get(name, []) + faults

    def _all_mendable(self) -> set[str]:
        """The texts that are rewritten before another is written."""
        texts = set()
        for step in self.chain.steps[self.at :]:
            if step.verb == "rewrite":
                texts |= set(step.of)
            elif step.verb in ("write", "join") and step is not self.chain.steps[self.at]:
                break
        return texts

    def _rewrite(self, step: Step):
        faulty = [name for name in step.of if self.faults.get(name)]
        for name in faulty:
            yield from self._mend(name, step.value.get("prompt"))
        if not faulty:
            return
        self.mending = True
        for earlier in self.chain.steps[: self.at]:
            if earlier.verb == "join" and earlier.name not in self.rewritten:
                yield from self._join(earlier)
            elif earlier.verb == "check":
                yield from self._check(earlier)
            elif earlier.verb == "judge" and (earlier.name not in self.judged or set(earlier.of) & set(faulty)):
                yield from self._judge(earlier)
        self.mending = False

    def _mend(self, name: str, template: str | None):
        """Another text in the place of one with faults; where there was none, its prompt is asked once more."""
        first, faults = self.prompts.get(name), self.faults.pop(name)
        if self.values[name]:
            words = "; ".join(_in_words(fault, self.lang) for fault in faults)
            asked = first.messages[-1]["content"] if first else ""
            values = self.values | {"text": self.values[name], "faults": words, "prompt": asked}
            template = template or prompts.in_language(prompts.WORDS["mend"], self.lang)
            messages = [{"role": "user", "content": chain_templates.text(template, values)}]
            first = Ask(0, [*(first.messages[:-1] if first else []), *messages], first.options if first else {})
        text, fault = yield from self._written(first, "")
        if fault:
            raise Aside(fault[0], ": ".join(filter(None, (name, fault[1]))), self.last)
        self.values[name] = text
        self.rewritten.append(name)


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


def _told(scores: dict) -> str:
    return ", ".join(f"{name} {score:g}" for name, score in scores.items())


def _in_words(fault: tuple[str, str], lang: str) -> str:
    """A fault, worded for the prompt of the rewriting."""
    words = prompts.in_language(prompts.WORDS["faults"], lang)
    return words.get(fault[0], "{detail}").replace("{detail}", fault[1] or fault[0])
