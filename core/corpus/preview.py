"""A row as the trainer will see it: its tokens as learned, not learned, special, or cut off by max_length."""

from core.corpus import turns
from core.models import tokenizer as tokenizers
from core.training import encoding

LONGEST = 100_000  # characters of a text that are encoded at once: unbroken runs take time that grows with their square
KINDS = ("learned", "given", "special", "special_learned", "cut")


def tokens(row: dict, tokenizer, *, max_length: int, learn: str = "assistant") -> dict:
    """{"pieces", "tokens", "learned", "cut", "warnings"}: pieces are (text, kind, number of tokens), in order.

    It is the trainer's own encode. A piece is a run of tokens of one kind that stand for whole characters. Warnings
    are codes: nothing_to_learn, loses_end, doubled_begin, special_in_text.

    Raises:
        errors.TemplateRefused: when the chat template does not take the row's roles.
    """
    row = turns.as_chat(row)
    encoded = encoding.encode(row, tokenizer, learn)
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids, labels = encoded["input_ids"], encoded["labels"]
    learned = [label != encoding.IGNORED for label in labels]
    kinds = [
        "cut" if at >= max_length else ("special_learned" if learned[at] else "special") if id in special
        else "learned" if learned[at] else "given"
        for at, id in enumerate(ids)
    ]  # fmt: skip
    names = {id: token.content for id, token in tokenizer.added_tokens_decoder.items()}
    return {
        "pieces": _pieces(encoded, kinds, names),
        "tokens": len(ids),
        "learned": sum(learned[:max_length]),
        "cut": max(0, len(ids) - max_length),
        "warnings": warnings(row, encoded, special, tokenizer, max_length),
    }


def of_model(row: dict, model: str, max_length: int, learn: str) -> dict:
    """tokens() of a row by the tokenizer of a model directory."""
    return tokens(shortened(row), tokenizers.load(model), max_length=max_length, learn=learn)


def shortened(row: dict) -> dict:
    """A row of which every text has at most so many characters, quick to show."""
    if all(len(text) <= LONGEST for text in turns.texts(row)):
        return row
    return turns.mapped(row, lambda text: text[:LONGEST])


def warnings(row: dict, encoded: dict, special: set[int], tokenizer, max_length: int) -> list[str]:
    """Codes of what will go wrong when this row is learned."""
    ids, learned = encoded["input_ids"], [label != encoding.IGNORED for label in encoded["labels"]]
    codes = []
    if not any(learned[1:max_length]):
        codes.append("nothing_to_learn")
    elif any(learned[max_length:]):  # the last thing that is learned is the end token
        codes.append("loses_end")
    begin = getattr(tokenizer, "bos_token_id", None)
    if begin is not None and ids[:2] == [begin, begin]:
        codes.append("doubled_begin")
    if specials_in(row, tokenizer):
        codes.append("special_in_text")
    return codes


def specials_in(row: dict, tokenizer) -> list[str]:
    """The special tokens that stand inside the row's own text: they would end a turn too early."""
    names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]
    return [name for name in names if any(name in text for text in turns.texts(row))]


def _pieces(encoded: dict, kinds: list[str], names: dict[int, str]) -> list[tuple[str, str, int]]:
    text, at = encoded["text"], 0
    pieces: list[list] = []
    for (start, end), kind, id in zip(encoded["spans"], kinds, encoded["input_ids"], strict=True):
        if start == end:  # a token without characters of its own: an end token that the trainer adds, a begin token
            pieces.append([names.get(id, ""), kind, 1])
            continue
        if start > at:  # characters between tokens, such as spaces that a normaliser drops
            pieces.append([text[at:start], kind, 0])
        piece = text[max(start, at) : end]
        at = max(at, end)
        if not piece and pieces:  # a further token of the same character
            pieces[-1][2] += 1
        else:
            pieces.append([piece, kind, 1])
    if at < len(text):
        pieces.append([text[at:], kinds[-1] if kinds else "given", 0])
    return [tuple(piece) for piece in pieces]


def in_terminal(shown: dict) -> str:
    """The pieces with colours for a terminal: green learned, grey given, blue special, red cut."""
    colours = {"learned": "32", "given": "90", "special": "34", "special_learned": "1;36", "cut": "9;31"}
    return "".join(f"\x1b[{colours[kind]}m{_visible(text)}\x1b[0m" for text, kind, _ in shown["pieces"])


def _visible(text: str) -> str:
    return "".join(char if char in "\n\t" or char.isprintable() else f"<U+{ord(char):04X}>" for char in text)
