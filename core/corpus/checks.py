"""What may be wrong with a row: each check gives an attribute, none of them throws anything away."""

import re
from collections import Counter

from core.corpus import languages, mojibake, personal, turns

THINK = re.compile(r"</?think(?:ing)?>|◁think▷")
SPECIAL = re.compile(
    r"<\|[a-z_0-9]{2,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|unk)>", re.IGNORECASE
)
_REFUSED_RU = (
    "помочь|помогать|выполн|ответить на|отвечать на|предостав|обсужд|созда|сгенерир|написать|продолжить эт|участвовать|поддерж|"
    "раскры|рассказать о том, как|дать (?:такой|совет|инструкц)|содействовать|давать"
)
_REFUSED_EN = (
    "help|assist|provide|fulfill|comply|answer|generate|create|write|discuss|engage|continue|share|support|do that|give"
)
REFUSAL = re.compile(
    r"как (?:ии|искусственный интеллект|языковая модель|ии-модель|модель искусственного)|"
    r"я (?:всего лишь |лишь |— )?(?:языковая модель|ии-ассистент|ии-модель)|не могу (?:помочь|выполнить|ответить) (?:с|на) эт|"
    rf"(?:извините|простите|к сожалению),? (?:но )?я не (?:могу|буду) (?:вам |с этим )?(?:{_REFUSED_RU})|"
    rf"as an ai\b|as a language model|i(?:'m| am) (?:just )?an ai\b|i(?:'m| am) sorry,? but i (?:can(?:'t|not)|am unable to|won't) (?:{_REFUSED_EN})|"
    r"i can(?:'t|not) (?:help|assist) with (?:that|this)",
    re.IGNORECASE,
)
LOOKALIKE = "aceopxyABCEHKMOPTXiI"
MIXED = re.compile(rf"(?<![\w/-])(?=[^\W\d_]*[а-яА-ЯёЁ])(?=[^\W\d_]*[a-zA-Z])[а-яА-ЯёЁ{LOOKALIKE}]+(?![\w/-])")
TO_CYRILLIC = str.maketrans("aceopxyABCEHKMOPTXiI", "асеорхуАВСЕНКМОРТХіІ")
FLAGS = ("cjk", "think", "refusal", "special", "mixed", "spoilt", "personal")


def check(row: dict) -> dict:
    """{"lang", "chars", and "flags": those that hold, "personal": counts by kind} of a row."""
    whole, learned = "\n".join(turns.texts(row)), turns.learned(row)
    lang, flags = languages.of(whole), []
    if not whole.isascii():
        if lang in ("ru", "uk", "be") and languages.CJK.search(learned):
            flags.append("cjk")
        if MIXED.search(whole):
            flags.append("mixed")
        if mojibake.remains(whole):
            flags.append("spoilt")
    if "<" in whole or "[" in whole or "◁" in whole:
        flags += ["think"] * bool(THINK.search(whole)) + ["special"] * bool(SPECIAL.search(whole))
    if REFUSAL.search(learned):
        flags.append("refusal")
    checked = {"lang": lang, "chars": len(whole), "flags": flags}
    if counts := Counter(kind for _, _, kind in personal.find(whole)):
        flags.append("personal")
        checked["personal"] = dict(counts)
    return checked


def without_lookalikes(text: str) -> str:
    """Latin letters inside Cyrillic words as the Cyrillic ones that they look like; whole Latin words stay."""
    return MIXED.sub(lambda word: word.group().translate(TO_CYRILLIC), text)
