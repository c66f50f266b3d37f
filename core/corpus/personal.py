"""Personal data in texts: found by shape and checksum, replaced by typed placeholders on request."""

import ipaddress
import re
from collections import Counter

PATTERNS = (
    ("key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.{20,8000}?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)),
    ("key", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
    ("email", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[a-zA-Zа-яА-Я]{2,24}\b")),
    ("key", re.compile(
        r"\b(?:sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[A-Z0-9]{16}|"
        r"glpat-[\w-]{20,}|xox[abprs]-[\w-]{20,}|AIza[\w-]{35}|\d{8,10}:AA[\w-]{33})(?![\w-])"
    )),
    ("snils", re.compile(r"(?<!\d)\d{3}-\d{3}-\d{3}[ -]\d{2}(?!\d)")),
    ("card", re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")),
    ("inn", re.compile(r"(?<!\d)(?:\d{12}|\d{10})(?!\d)")),
    ("phone", re.compile(r"(?<![\d\w])(?:\+7|8)[ \u00a0-]?\(?\d{3}\)?[ \u00a0-]?\d{3}[ \u00a0-]?\d{2}[ \u00a0-]?\d{2}(?!\d)")),
    ("phone", re.compile(r"(?<![\d\w])\+(?!7)\d{1,3}[ -]?\(?\d{2,4}\)?(?:[ -]?\d{2,4}){2,3}(?!\d)")),
    ("passport", re.compile(r"(?<!\d)\d{2} ?\d{2}(?: |-|, |,? ?(?:№|номер|no\.?) ?)?\d{6}(?!\d)", re.IGNORECASE)),
    ("phone", re.compile(r"(?<![\d\w])\(?\d{3}\)?[ -]?\d{3}[ -]?\d{2}[ -]?\d{2}(?![\d\w])")),
    ("ip", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")),
)  # fmt: skip
KINDS = tuple(dict.fromkeys(kind for kind, _ in PATTERNS))
_HINT = re.compile(
    r"\d{2}|@|sk-|hf_|gh[pousr]_|github_pat_|AKIA|glpat-|xox|AIza|eyJ|-----BEGIN"
)  # a text without any of these has none


def find(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of personal data, in order, without overlaps."""
    if not _HINT.search(text):
        return []
    places: list[tuple[int, int, str]] = []
    for kind, pattern in PATTERNS:
        for match in pattern.finditer(text):
            if _holds(kind, match.group(), text[max(0, match.start() - 25) : match.start()]) and not any(
                start < match.end() and match.start() < end for start, end, _ in places
            ):
                places.append((match.start(), match.end(), kind))
    return sorted(places)


def replaced(text: str, names: dict[tuple[str, str], str] | None = None) -> tuple[str, Counter]:
    """The text with placeholders such as [EMAIL_1], and counts by kind.

    Equal data gets the same placeholder; `names` carries them over the turns of one chat.
    """
    names = {} if names is None else names
    parts, at, counts = [], 0, Counter()
    for start, end, kind in find(text):
        key = (kind, re.sub(r"[\s()-]", "", text[start:end]))
        if key not in names:
            names[key] = f"[{kind.upper()}_{1 + sum(known == kind for known, _ in names)}]"
        parts += [text[at:start], names[key]]
        at = end
        counts[kind] += 1
    return "".join([*parts, text[at:]]), counts


def _holds(kind: str, text: str, before: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    if kind == "card":
        is_book = re.search(r"isbn|ean|штрих", before, re.IGNORECASE) or (len(digits) == 13 and digits[:2] == [9, 7])
        return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and not is_book and luhn(digits)
    if kind == "phone" and len(digits) == 10 and text[0] != "+":  # without its country: by the word before it
        return re.search(r"\b(?:тел|моб|phone|mobile|whatsapp|звони)", before, re.IGNORECASE) is not None
    if kind == "inn":
        # Ten digits pass the checksum by chance in one of eleven: they need their name beside them.
        named = re.search(r"инн|inn", before, re.IGNORECASE) is not None
        return inn(digits) and (named or (len(digits) == 12 and digits[0] != 0 and len(set(digits)) > 3))
    if kind == "snils":
        return snils(digits)
    if kind == "passport":
        return re.search(r"паспорт|passport|серия", before, re.IGNORECASE) is not None
    if kind == "ip":
        if re.search(r"(?:верси\w*|version|ver\.?|\bv\.?|релиз|release|сборк\w*|build)\s*$", before, re.IGNORECASE):
            return False
        try:
            return ipaddress.ip_address(text).is_global
        except ValueError:
            return False
    return True


def luhn(digits: list[int]) -> bool:
    """Whether the digits of a card number have its checksum."""
    doubled = [digit * 2 - 9 * (digit > 4) if at % 2 else digit for at, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def inn(digits: list[int]) -> bool:
    """Whether the digits of a Russian taxpayer number have its one or two control digits."""
    weights = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)

    def control(count: int) -> int:
        return sum(a * b for a, b in zip(weights[-count:], digits, strict=False)) % 11 % 10

    if len(digits) == 10:
        return control(9) == digits[9]
    return len(digits) == 12 and control(10) == digits[10] and control(11) == digits[11]


def snils(digits: list[int]) -> bool:
    """Whether the digits of a Russian insurance number have its checksum."""
    if len(digits) != 11:
        return False
    total = sum((9 - at) * digit for at, digit in enumerate(digits[:9]))
    return total % 101 % 100 == digits[9] * 10 + digits[10]
