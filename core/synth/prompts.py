"""What a model is asked: ways to make rows from seeds, and the grid of persona, topic, style and form.

A prompt is {"messages", "shape", "parent"?, "cell"?, "ask"?}; `shape` says how the reply becomes a row.
"""

import random

from core.errors import UserError

METHODS = ("continue", "questions", "rewrite", "summarise", "self_instruct", "evolve", "dialogue", "verbalised", "free")
CHUNK = 2000  # characters of a seed that are shown
LEAST = {"self_instruct": 3}
WORDS = {
    "continue": (
        "Continue this text in the same voice. Write only the continuation.\n\n{seed}",
        "Продолжи этот текст тем же голосом. Пиши только продолжение.\n\n{seed}",
    ),
    "questions": (
        "Write one question that this text answers, and the answer in your own words.\nQuestion: …\nAnswer: …\n\n{seed}",
        "Придумай один вопрос, на который отвечает этот текст, и ответь своими словами.\nВопрос: …\nОтвет: …\n\n{seed}",
    ),
    "rewrite": (
        "Rewrite this text {style}. Keep the meaning. Write only the new text.\n\n{seed}",
        "Перепиши этот текст {style}. Сохрани смысл. Пиши только новый текст.\n\n{seed}",
    ),
    "summarise": (
        "Say what matters in this text in two or three sentences.\n\n{seed}",
        "Передай главное из этого текста в двух-трёх предложениях.\n\n{seed}",
    ),
    "self_instruct": (
        "Here are three requests:\n1. {a}\n2. {b}\n3. {c}\nWrite a fourth, on another subject, and fulfil it.\n"
        "Question: …\nAnswer: …",
        "Вот три просьбы:\n1. {a}\n2. {b}\n3. {c}\nПридумай четвёртую, о другом, и выполни её.\nВопрос: …\nОтвет: …",
    ),
    "evolve": (
        "Make this request harder: {how}. Then fulfil it.\nQuestion: …\nAnswer: …\n\n{seed}",
        "Усложни эту просьбу: {how}. Затем выполни её.\nВопрос: …\nОтвет: …\n\n{seed}",
    ),
    "dialogue": (
        "Write a conversation of four to six turns about this text. Each turn begins with “A:” or “B:”.\n\n{seed}",
        "Напиши разговор об этом тексте, четыре-шесть реплик. Каждая начинается с «А:» или «Б:».\n\n{seed}",
    ),
    "verbalised": (
        "Give five different answers, each with how likely you would be to say it, from common to rare. "
        "One answer a line: probability | answer.\n\n{seed}",
        "Дай пять разных ответов, для каждого укажи вероятность, с которой ты бы так ответил, от частых к редким. "
        "Каждый ответ с новой строки: вероятность | ответ.\n\n{seed}",
    ),
    "free": ("{seed}", "{seed}"),
    "judge": (
        "Rate this text from 1 to 10: clear, correct, worth learning from. Answer with the number only.\n\n{seed}",
        "Оцени этот текст от 1 до 10: ясность, верность, стоит ли на нём учиться. Ответь одним числом.\n\n{seed}",
    ),
}
HARDER = (
    ("add a constraint", "добавь ограничение"),
    ("ask for the reasons", "попроси объяснить причины"),
    ("replace general words by concrete ones", "замени общие слова конкретными"),
    ("ask for several steps", "потребуй нескольких шагов"),
    ("move it to a rarer subject", "перенеси на более редкий предмет"),
)
SHAPES = {"questions": "pair", "self_instruct": "pair", "evolve": "pair", "dialogue": "turns", "verbalised": "rare"}


class SeedsMissing(UserError):
    template = (
        "The recipe begins with your texts: it needs at least {least}, there are {count}. Choose a corpus of them."
    )


class TooFewSeeds(UserError):
    template = "{what}: {count} found, at least {least} are needed. Add more."


def of_method(recipe, seeds: list[dict], seed: int, number: int) -> dict:
    """The prompt of a row: seeds are taken in a shuffled order, each once before any comes again."""
    method, ru = recipe.values.get("method", "free"), recipe.lang == "ru"
    draw = random.Random((seed << 64) + number)
    one = shuffled(len(seeds), seed, number)
    values = {"seed": seeds[one]["text"][:CHUNK], "style": recipe.values.get("style", "")}
    if method == "self_instruct":
        picked = draw.sample(range(len(seeds)), 3)
        values |= {key: seeds[at]["text"][:300] for key, at in zip("abc", picked, strict=True)}
    if method == "evolve":
        values["how"] = draw.choice(HARDER)[ru]
    template = recipe.values.get("prompt") or WORDS[method][ru]
    text = template.format_map(_Kept(values))
    shape = SHAPES.get(method, "answer" if method == "free" else "text")
    return {
        "messages": _with_system(recipe, text),
        "shape": shape,
        "ask": values["seed"],
        "parent": seeds[one].get("id"),
    }


def of_grid(recipe, seed: int, number: int, axes: dict | None = None) -> dict:
    """The prompt of a row of the grid: every cell once, in shuffled order, before any comes again."""
    axes = axes or recipe.values["axes"]
    size = 1
    for values in axes.values():
        size *= len(values)
    at, cell = shuffled(size, seed, number), {}
    for name, values in axes.items():
        at, place = divmod(at, len(values))
        cell[name] = str(values[place])
    text = recipe.values["prompt"].format_map(_Kept(cell))
    return {"messages": _with_system(recipe, text), "shape": "answer", "ask": text, "cell": cell}


def shuffled(size: int, seed: int, number: int) -> int:
    """The number-th place of an endless shuffle of range(size), made without a list: a walk through a permutation.

    Within a cycle of `size` numbers every place comes exactly once; each cycle has another order. A Feistel network
    over the next power of four, walked until it lands inside.
    """
    if size < 2:
        return 0
    cycle, at = divmod(number, size)
    bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << bits) - 1
    while True:
        left, right = at >> bits, at & mask
        for turn in range(4):
            mixed = random.Random((((seed << 20) + cycle) << 64) + (turn << 60) + right).getrandbits(bits)
            left, right = right, left ^ mixed
        at = (left << bits) | right
        if at < size:
            return at


def check(recipe, seeds: list[dict]) -> None:
    """Refuse what cannot give rows: too few texts to begin with, an axis of one value.

    Raises:
        SeedsMissing, TooFewSeeds: with what is short.
    """
    if recipe.kind == "grid":
        for name, values in recipe.values["axes"].items():
            if len(values) < 2:
                raise TooFewSeeds(what=name, count=len(values), least=2)
        return
    least = LEAST.get(recipe.values.get("method", "free"), 1)
    if len(seeds) < least:
        raise SeedsMissing(count=len(seeds), least=least)


class _Kept(dict):
    """Unknown names stay as they stand, so that a seed with braces does no harm."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def _with_system(recipe, text: str) -> list[dict]:
    system = recipe.values.get("system")
    return ([{"role": "system", "content": str(system)}] if system else []) + [{"role": "user", "content": text}]
