"""Which old encoding a text of Latin letters is in, by the letters beyond ASCII that its language uses."""

import re

# Each language's letters, the commonest first, and the encodings of its texts, those of Windows first.
WESTERN, CENTRAL = ("cp1252", "cp850", "mac_roman"), ("cp1250", "iso8859_2", "cp852")
LANGUAGES = {
    "éèàêçùôâîûœëïæÿü": WESTERN, "üäöß": WESTERN, "óíáéñú¿¡ü": WESTERN, "ãçéáóíõêâúàô": WESTERN, "èàòùìé": WESTERN,
    "äåöé": WESTERN, "øåæé": WESTERN, "äöüõ": WESTERN, "ëéïóöè": WESTERN, "ðþíáæöúóéý": WESTERN, "àéíòçèóúï·": WESTERN,
    "ıişğüçöİâî": ("cp1254", "cp857"), "ąęłóśżćńź": CENTRAL, "íáěéčřšýžůúťďňó": CENTRAL, "áíčéľšžýťúôňďäĺŕó": CENTRAL,
    "áéőöüóíűú": CENTRAL, "ăîâşţ": CENTRAL, "čšžćđ": CENTRAL,
    "ėšųžįąčūę": ("cp1257", "iso8859_13"), "āīēšūņļģčžķ": ("cp1257", "iso8859_13"),
}  # fmt: skip
FIRST, BY_RANK = 1.5, 0.2  # nats for a letter of the language by its rank
MARKS, MARK = frozenset("«»–—’‘“”„…°€©®•§·\u00a0"), 4.0
OTHER_LETTER, NONE, INSIDE, CAPITAL = 7.0, 10.0, 8.0, 5.0  # and more for a sign inside a word, and a capital there
RARER = 4.0  # nats more of a whole text for each encoding behind that of Windows, and half for what is not Western
READS = 6.0  # nats that a character may cost
_SIGN_INSIDE = re.compile(r"[a-zA-Z][^\w\s’\x00-\x7f](?=[a-z])|[^\W_][¿¡«„](?=\w)")
_CAPITAL_INSIDE = re.compile(r"[a-z][À-ÖØ-ÞĀĂĄĆČĎĘĚĞİŁŃŇŐŘŚŞŠŤŮŰŹŻŽ](?=[a-z])")


def encoding_of(data: bytes) -> str:
    """The encoding in which these bytes read best; "" where they read well in none."""
    found, count = {}, sum(byte > 127 for byte in data)
    for letters, names in LANGUAGES.items():
        for at, name in enumerate(names):
            cost = _cost(data.decode(name, errors="replace"), letters) + (at + (names != WESTERN) / 2) * RARER / count
            found[name] = min(found.get(name, READS), cost)
    best = min(found, key=found.get)
    return best if found[best] < READS else ""


def _cost(text: str, letters: str) -> float:
    """The nats of a character beyond ASCII, in a language of these letters."""
    beyond = [char for char in text if not char.isascii()]
    costs = {char: _char_cost(char, letters) for char in set(beyond)}
    inside = len(_SIGN_INSIDE.findall(text)) * INSIDE + len(_CAPITAL_INSIDE.findall(text)) * CAPITAL
    return (sum(map(costs.__getitem__, beyond)) + inside) / len(beyond)


def _char_cost(char: str, letters: str) -> float:
    small = char.lower() if char != "İ" else char
    if small in letters:
        return FIRST + BY_RANK * letters.index(small) + (1.0 if small != char else 0.0)
    if char in MARKS:
        return MARK
    return OTHER_LETTER if char.isalpha() and char < "\u0250" and char not in "ªº" else NONE
