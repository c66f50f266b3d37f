"""Personal data in texts: found by shape and checksum, replaced by typed placeholders on request."""

import ipaddress
import re
from collections import Counter

GAP = r"[ .\u00a0\u2009\u202f\u2011\u2013-]"  # between the digits of a telephone number
SMALL = 30  # numbers up to this one are rather those of a version
PATTERNS = (
    ("key", re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.{5,8000}?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\n\s*\n|\Z)",
        re.DOTALL,
    )),
    ("key", re.compile(r"PuTTY-User-Key-File-\d.{5,8000}?(?:Private-MAC: \w+|\n\s*\n|\Z)", re.DOTALL)),
    ("key", re.compile(r"(?<=://)[^\s:/@]{0,64}:(?=[^\s/@]*\d)[^\s/@]{3,64}(?=@)")),  # of a database or a server
    ("key", re.compile(r"(?<=hooks\.slack\.com/services/)[\w/]{20,}|(?<=/api/webhooks/)\d{17,20}/[\w-]{60,}")),
    ("key", re.compile(r"\b[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])")),  # of a bot of Discord
    ("key", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
    ("email", re.compile(
        r"(?<![\w.+-])(?!git@)[\w.+-]{1,64}(?:@|\s?[\[(]\s?(?:at|собака)\s?[\])]\s?)(?!\dx\.)"
        r"[\w-]{1,63}(?:(?:\.|\s?[\[(]\s?(?:dot|точка)\s?[\])]\s?)[\w-]{1,63})*"
        r"(?:\.|\s?[\[(]\s?(?:dot|точка)\s?[\])]\s?)[a-zA-Zа-яА-Я]{2,24}\b"
    )),
    ("key", re.compile(
        r"\b(?:sk-[A-Za-z0-9_-]{20,}|[sr]k_(?:live|test)_\w{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|"
        r"github_pat_\w{30,}|A[KS]IA[A-Z0-9]{16}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{20,}|AIza[\w-]{35}|\d{8,10}:AA[\w-]{32,33}|"
        r"gsk_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{40,}|ya29\.[\w-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-A[\w-]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|dop_v1_[a-f0-9]{64}|"
        r"vk1\.a\.[\w-]{40,}|y[0-3]_[\w-]{30,}|AQVN[\w-]{30,}|AGE-SECRET-KEY-1[A-Z0-9]{50,})(?![\w-])"
    )),
    ("key", re.compile(
        r"(?<=bearer )[\w.~+/=-]{24,}|(?<=authorization: basic )[\w+/]{12,}={0,2}|(?:(?:api|account|access)[_-]?key|secret[\w-]{0,40}|token|ключ api|токен)[\"']?\s*[:=]\s*[\"']?"
        r"(?=[\w/+.-]*\d)[\w/+.-]{20,}={0,2}|(?:password|passwd|пароль(?: (?:от|для|к|на) [\w-]{1,20}(?: [\w-]{1,20})?)?)[\"']?\s*[:=]\s*[\"']?(?=\S*\d)(?=\S*[^\W\d])[^\s\"',;]{6,64}",
        re.IGNORECASE,
    )),
    ("oms", re.compile(r"(?<![\d-])\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}(?![\d-])")),
    ("snils", re.compile(r"(?<!\d)\d{3}([ -])\d{3}\1\d{3}[ -]?\d{2}(?!\d)|(?<!\d)\d{11}(?!\d)")),
    ("account", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b|(?<!\d)[34]\d{19}(?!\d)")),
    ("card", re.compile(
        r"(?<![\d-])(?:[2-6]\d{14,15}|[56]\d{17,18}|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}(?:\1?\d{2,3})?|"
        r"3[47]\d{2}([ -])\d{6}\2\d{5})(?![\d-])"
    )),
    ("inn", re.compile(r"(?<!\d)(?:\d{12}|\d{10})(?!\d)")),
    ("phone", re.compile(
        rf"(?<![\d\w])(?:\+7|8|7(?=[ \u00a0(-]|9\d{{9}}(?!\d)|9\d\d[ -]\d{{3}}[ -])){GAP}?\(?\d{{3}}\)?{GAP}?\d{{3}}{GAP}?\d{{2}}{GAP}?\d{{2}}(?!\d)"
    )),
    ("phone", re.compile(r"(?<![\d\w])\+(?!7)\d{1,3}[ -]?(?:\(0\))?\(?\d{2,4}\)?(?:[ -]?\d{2,4}){2,3}(?!\d)")),
    ("phone", re.compile(r"(?<![\w-])\(?[2-9]\d\d\)?(?:[ -][2-9]\d\d-|\.[2-9]\d\d\.)\d{4}(?![\w-])")),  # of North America
    ("passport", re.compile(
        r"(?<!\d)\d{2} ?\d{2}(?: |-|, |,? ?(?:№|номер|no\.?) ?)?\d{6}(?!\d)|(?<![\w-])(?:\d{2} ?\d{7}|[A-Z]{1,2}\d{6,8})(?!\w)|"
        r"\b[IVXLC]{1,5}[ -][А-Я]{2} ?№? ?\d{6}(?!\d)",
        re.IGNORECASE,
    )),
    ("phone", re.compile(r"(?<![\d\w])(?:\(?\d{3}\)?[ -]?)?\d{3}[ -]?\d{2}[ -]?\d{2}(?![\d\w])")),
    ("ip", re.compile(r"(?<![\w.])(?<!\w/)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|(?<![\w:])(?:[0-9a-f]{1,4}:+){3,7}[0-9a-f]{1,4}(?![\w:])", re.I)),
)  # fmt: skip
KINDS = tuple(dict.fromkeys(kind for kind, _ in PATTERNS))
_NUMBER = re.compile(r"\d(?:[ ().\u00a0\u2009\u202f\u2011\u2013-]{0,3}\d){4}")
# A text without these has none of the kind: searched first, for they are quick and most texts have none.
_HINTS = {
    "key": re.compile(
        r"sk-|[sr]k_|://[^\s:/@]{0,64}:[^\s/@]{3,64}@|hooks|xai-|ya29|\b[MNO][\w-]{23,27}\.[\w-]{6}\.|dop_v1|y\d_|hf_|gh[pousr]_|github_pat_|A[KS]IA|AQVN|AGE-S|[Bb]asic|glpat-|gsk_|npm_|pypi-|SG\.|vk1|xox|AIza|eyJ|:AA|"
        r"-----BEGIN|PuTTY|[Bb]earer|BEARER|[Kk]ey|KEY|[Ss]ecret|SECRET|[Tt]oken|TOKEN|[Pp]assw|PASSW|[Пп]ароль|[Тт]окен|[Кк]люч"
    ),
    "email": re.compile(r"@|[\[(]\s?(?:at|собака)\s?[\])]"),
    "ip": re.compile(r"\d\.\d+\.|:[0-9a-fA-F]{0,4}:"),
}
_CALLED = re.compile(
    r"(?<!\w)(?:тел|моб|phone|mobile|whatsapp|звони|call|(?:мой|мо[её]м|е[её]|его) номер|номер телефона|т\.)",
    re.IGNORECASE,
)
# Right before a number of a mobile telephone that has neither plus nor gaps; and before what is none.
_NUMBERED = re.compile(
    r"(?<!\w)(?:номер|пиши(?:те)?|напиши(?:те)?|связ\w+|контакт\w*|вотсап\w*|ватсап\w*|вайбер\w*|viber|telegram|тг)"
    r"(?:\W+(?:мне|по|на|в|с нами|номеру?|здесь|тут))*\W*$",
    re.IGNORECASE,
)
_ORDERED = re.compile(
    r"(?:заказ|артикул|трек|сч[её]т|договор|накладн|квитанц|чек|билет|заявк|isbn|order|invoice|ticket|tracking)\w*"
    r"\W*(?:№|номер|no\.?|number|#)?\W*$",
    re.IGNORECASE,
)
_DOCUMENT = re.compile(
    r"паспорт|passport|серия|удостоверени|удостоверяющ|вид на жит|свидетельств|водительск", re.IGNORECASE
)
_VERSION = re.compile(
    r"(?:верси\w*|version|\bver\.?|chapter|\bv\.?|релиз|release|сборк\w*|build|\bп\.|пункт\w*|раздел\w*|глав\w*|section|§|рис\.|табл\.|ядр\w+|kernel|linux|python|php|java|nginx|firmware|прошивк\w+|driver|драйвер\w*|гост|oid)\s*$",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\bip\b|\bdns\b|серв|server|host|хост|адрес|address|ping|//|@", re.IGNORECASE)


def find(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of personal data, in order, without overlaps."""
    held = {kind for kind, hint in _HINTS.items() if hint.search(text)}
    numbers = _NUMBER.search(text) is not None
    places: list[tuple[int, int, str]] = []
    for kind, pattern in PATTERNS if held or numbers else ():
        if not (kind in held if kind in _HINTS else numbers):
            continue
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
    """Whether what has the shape of a kind is one, by its checksum and by the words before it."""
    digits = [int(char) for char in text if char.isdigit()]
    if kind == "card":
        is_book = re.search(r"isbn|ean|штрих", before, re.IGNORECASE)
        return len(set(digits)) > 1 and not is_book and luhn(digits)
    if kind == "account":
        named = re.search(r"р/с|сч[её]т|account|iban", before, re.IGNORECASE) is not None
        return named if text.isdigit() else iban(text)
    if kind == "phone":
        # Without its country or the brackets of its town: by the word before it.
        short = len(digits) == 7 or (len(digits) == 10 and text[0] not in "+(") or re.fullmatch(r"7\d{10}", text)
        if _ORDERED.search(before):
            return False
        return (
            not short
            or (len(digits) == 11 and digits[1] == 9 and _NUMBERED.search(before) is not None)
            or _CALLED.search(before) is not None
            or re.fullmatch(r"[2-9]\d\d([.-])[2-9]\d\d\1\d{4}", text) is not None
        )
    if kind == "inn":
        # Ten digits pass the checksum by chance in one of eleven: they need their name beside them.
        named = re.search(r"инн|inn", before, re.IGNORECASE) is not None
        return inn(digits) and (named or (len(digits) == 12 and digits[0] != 0 and len(set(digits)) > 3))
    if kind == "oms":
        return re.search(r"(?<!\w)(?:омс|полис)", before, re.IGNORECASE) is not None
    if kind == "snils":
        return snils(digits) and ("-" in text or re.search("снилс|страхов", before, re.IGNORECASE) is not None)
    if kind == "passport":
        return _DOCUMENT.search(before) is not None
    return kind != "ip" or _is_address(text, before)


def _is_address(text: str, before: str) -> bool:
    """Whether four numbers, or groups of hexadecimal digits, are a public address and no version or section."""
    if _VERSION.search(before):
        return False
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    small = "." in text and len(set(text.split("."))) > 1 and max(map(int, text.split("."))) <= SMALL
    return address.is_global and (not small or _ADDRESS.search(before) is not None)


def iban(text: str) -> bool:
    """Whether an international account number has its checksum."""
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


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
