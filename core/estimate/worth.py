"""Does the whole plan pay? Its days, energy, epochs and tokens per parameter against limits, and the nearest that pays."""

from dataclasses import dataclass, field, replace

from core.errors import UserError
from core.estimate import advice, cards, catalogue
from core.estimate import answer as answers
from core.estimate.answer import Answer

WORTH_IT, SLOW, DOES_NOT_PAY = "worth_it", "slow", "does_not_pay"
VERDICTS = (WORTH_IT, SLOW, DOES_NOT_PAY)
DAY = 86400.0
# Days: over a weekend nobody waits. After two weeks most plans have changed, and a power cut has come: by then eight
# rented cards have done the same within a day or two.
DAYS = (3.0, 14.0)
# Passes over the same text: up to four teach nearly as much as new text, after sixteen hardly anything. arXiv:2305.16264.
GOOD_EPOCHS, MOST_EPOCHS = 4, 16
# Tokens for each number of an adapter. A weight holds about two bits (arXiv:2404.05405), a token brings about one that is
# new, and a good part of them is said twice: with a hundred the adapter has long been full.
CROWDED = 100
# Tokens for each weight where all are trained. With fewer than a thousandth LoRA learns the same and forgets less:
# arXiv:2405.09673.
SPARSE = 0.001
RENTED = "NVIDIA H100 80GB SXM"  # the card that most landlords of clusters have
NODE = 8  # of them in one machine


@dataclass(frozen=True)
class Reason:
    """One figure of the plan, its limits (for slow and for does_not_pay; of most figures the same), and what it says."""

    name: str
    value: float
    limits: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class Worth:
    """The verdict on a plan, why, what else the same days buy, and the nearest plan that pays."""

    verdict: str
    reasons: list[Reason]
    kilowatt_hours: float
    cost: float | None = None  # of the energy, in the currency of the price
    same_days: dict = field(default_factory=dict)
    nearest: dict = field(default_factory=dict)  # fields of the form with new values; empty: this one, or none
    prompt: dict = field(default_factory=dict)  # what a prompt and a run have reached here: core.runs.learned.prompt_of

    def as_dict(self) -> dict:
        """Plain values for --json."""
        reasons = [
            {
                "name": r.name,
                "value": round(r.value, 5),
                "limits": [round(limit, 3) for limit in r.limits],
                "verdict": r.verdict,
            }
            for r in self.reasons
        ]
        return {
            "verdict": self.verdict,
            "reasons": reasons,
            "energy_kwh": round(self.kilowatt_hours, 3),
            "energy_cost": self.cost,
            "same_days": self.same_days,
            "nearest": self.nearest,
            "prompt": self.prompt,
        }


def of(answer: Answer, price: float = 0.0, prompt: dict | None = None) -> Worth:
    """The verdict on the plan of an answer; `price` is that of a kWh, 0 where the person has not said it.

    `prompt` is what was measured on the plan's base and corpus without training; it is quoted and decides nothing.
    """
    reasons = _reasons(answer)
    found = _worst(reasons)
    cost = round(answer.kilowatt_hours * price, 2) if price else None
    known = Worth(found, reasons, answer.kilowatt_hours, cost, prompt=prompt or {})
    return known if found == WORTH_IT else replace(known, same_days=same_days(answer), nearest=nearest(answer))


def verdict(answer: Answer) -> str:
    """worth_it, slow or does_not_pay."""
    return _worst(_reasons(answer))


def of_days(days: float) -> str:
    """What the days alone say."""
    return VERDICTS[sum(days > limit for limit in DAYS)]


def _worst(reasons: list[Reason]) -> str:
    return max((reason.verdict for reason in reasons), key=VERDICTS.index)


def _reasons(answer: Answer) -> list[Reason]:
    """Every figure that has limits; a system prompt trains nothing, so only its memory can speak against it."""
    fits = Reason("memory", answer.process / answers.GIB, (answer.budget / answers.GIB,) * 2, _of_memory(answer))
    if answer.setup.method == "prompt":
        return [fits]
    days = answer.total_seconds / DAY
    reasons = [fits, Reason("days", days, DAYS, of_days(days)), _above("epochs", answer.epochs, MOST_EPOCHS)]
    ratio = answer.tokens / answer.memory.trainable
    if answer.setup.adapts:
        return [*reasons, _above("tokens_per_trained", ratio, CROWDED)]
    said = DOES_NOT_PAY if ratio < SPARSE else WORTH_IT
    return [*reasons, Reason("tokens_per_parameter", ratio, (SPARSE, SPARSE), said)]


def _of_memory(answer: Answer) -> str:
    return DOES_NOT_PAY if answer.verdict == "no" else WORTH_IT


def _above(name: str, value: float, limit: float) -> Reason:
    return Reason(name, value, (limit, limit), DOES_NOT_PAY if value > limit else WORTH_IT)


def same_days(answer: Answer) -> dict:
    """What the days of this plan would buy instead: a larger model, or rented cards for a part of them.

    {} for a plan that is not slow; {"days": of the plan; "tokens": that this card reads in DAYS[0] days, once; "larger": {"model", "tokens"}, the largest
    model that fits by QLoRA and what it reads in the plan's days; "rented": {"card", "days", "node_days"}, one card and
    NODE of them, which share the work evenly}.
    """
    if answer.total_seconds <= DAYS[0] * DAY:
        return {}
    seconds, rate = answer.total_seconds, answer.pace.tokens_per_second / answer.correction.seconds
    bought = {"days": round(seconds / DAY, 2), "tokens": _rounded(rate * DAYS[0] * DAY)}
    setup = answer.setup.changed(
        method="qlora", task="chat", weight_width=2, autocast=True, target_modules="all-linear"
    )
    name = advice.largest_model(setup, answer.card, answer.budget)
    if name and catalogue.shape(name).parameters > answer.shape.parameters:
        larger = answers.pace(catalogue.shape(name), setup, answer.card).tokens_per_second
        bought["larger"] = {"model": name, "tokens": _rounded(larger * seconds)}
    rented = cards.cards().get(RENTED)
    if rented and rented.name != answer.card.name:
        pace = answers.pace(answer.shape, answers.suited(answer.setup, rented), rented).tokens_per_second
        days = answer.tokens * answer.epochs / pace / DAY
        bought["rented"] = {"card": RENTED, "days": round(days, 2), "node_days": round(days / NODE, 2)}
    return bought


def nearest(answer: Answer) -> dict:
    """The fewest changes of the plan with which it pays: what fits, then the method, the epochs, the text.

    The fields of the form that change, with the days that it then takes; {} where none was found.
    """
    changed: dict = {}
    for step in (_fitting, _suited_method, _epochs, _tokens):
        if verdict(answer) == WORTH_IT:
            break
        fields = step(answer)
        if not fields:
            continue
        try:
            answer = _again(answer, fields)
        except UserError:  # a model or a setup that has no answer
            continue
        changed |= fields
    if not changed or verdict(answer) != WORTH_IT:
        return {}
    return changed | {"days": round(answer.total_seconds / DAY, 2), "verdict": answer.verdict}


def _again(answer: Answer, fields: dict) -> Answer:
    """The same question with other fields."""
    fields = dict(fields)
    shape = catalogue.shape(fields.pop("model")) if "model" in fields else answer.shape
    amounts = {name: fields.pop(name, getattr(answer, name)) for name in ("tokens", "epochs")}
    if fields.get("method", answer.setup.method) in ("lora", "qlora"):
        fields |= {"task": "chat", "weight_width": 2, "autocast": True}
    setup = replace(answer.setup, **fields)
    return answers.ask(shape, setup, answer.card, **amounts, free=answer.budget)


def _fitting(answer: Answer) -> dict:
    if answer.verdict != "no":
        return {}
    if way := advice.helpful(answer.shape, answer.setup, answer.card, answer.budget):
        fields = {name: value for change in way for name, value in change.fields.items()}
        return {
            name: value for name, value in fields.items() if name not in ("adapter_width", "weight_width", "autocast")
        }
    least = answer.setup.changed(method="qlora", task="chat", batch_size=1, weight_width=2, autocast=True)
    name = advice.largest_model(least, answer.card, answer.budget, below=answer.shape.parameters)
    return {"model": name, "method": "qlora", "batch_size": 1, "target_modules": "all-linear"} if name else {}


def _suited_method(answer: Answer) -> dict:
    """An adapter where there is too little text for all weights; a wider one where there is too much for it."""
    named = {reason.name: reason for reason in _reasons(answer)}
    if "tokens_per_parameter" in named and named["tokens_per_parameter"].verdict != WORTH_IT:
        return {"method": "lora"}
    crowd = named.get("tokens_per_trained")
    if crowd and crowd.verdict != WORTH_IT:
        rank = answer.setup.lora_rank
        while rank < 256 and crowd.value * answer.setup.lora_rank / rank > CROWDED:
            rank *= 2
        return {"lora_rank": min(rank, answer.shape.hidden)}
    return {}


def _epochs(answer: Answer) -> dict:
    """As many as still teach, or as the days allow; at least one."""
    days = answer.total_seconds / DAY / answer.epochs
    most = min(GOOD_EPOCHS, answer.epochs, max(1.0, DAYS[0] / days // 1))
    return {"epochs": float(most)} if most < answer.epochs else {}


def _tokens(answer: Answer) -> dict:
    """As much text as the days and the adapter allow."""
    most = answer.tokens * min(1.0, DAYS[0] / (answer.total_seconds / DAY))
    if answer.setup.adapts:
        most = min(most, CROWDED * answer.memory.trainable)
    return {"tokens": _rounded(most)} if most < answer.tokens else {}


def _rounded(tokens: float) -> int:
    """Down to two digits: 46,000,000."""
    digits = 10 ** max(0, len(str(int(tokens))) - 2)
    return int(tokens) // digits * digits
