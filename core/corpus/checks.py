"""What may be wrong with a row: each check gives an attribute, none of them throws anything away."""

import re
from collections import Counter

from core.corpus import languages, mojibake, personal, turns

THINK = re.compile(r"</?think(?:ing)?>|◁think▷")
SPECIAL = re.compile(
    r"<\|[a-z_0-9]{2,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|unk)>", re.IGNORECASE
)
_REFUSED_RU = (
    r"помочь(?! (?:тебе|ему|ей|им) с (?!эт))|помогать|выполн(?!\w* (?:заказ|работ|план|норм|обещ|договор))|ответить на (?:эт|ваш(?! (?:звон|письм))|так|подобн|данн)|отвечать на|предостав\w+ (?:вам |тебе )?(?:эт|так|подобн|данн|инструкц|информац|точн|конкретн|актуальн|доступ|ссылк|медицин|юридич|контент)|"
    r"обсуждать (?:эт[уи]|это(?=[.!]|$)|так|подобн|данн)|созда\w+ (?:эт|такой (?:контент|текст|запрос)|такие (?:материал|изображ|текст)|подобн|контент|материал)|сгенерир|написать(?! (?:письмо|тебе|вам|ему|ей|домой|ни )\b)|"
    r"продолжить эт|участвовать в (?:эт|так|подобн|обсужд|разговор\w* (?:так|подобн|на эт|о ))|поддерж\w+ (?:эт|так|подобн|разговор)|раскры|рассказать о том, как|дать (?:такой|совет|инструкц)|содействовать|давать(?! (?:деньги|денег|в долг|взаймы|тебе|вам|ему|ей))"
)
_REFUSED_EN = (
    "help|assist|provide|fulfill|comply|answer(?! the (?:phone|door|bell))|generate|create|write(?! (?:with|back|to you))|discuss|engage|continue|share|support|do that|"
    r"give (?:you )?(?:that|this|such|any|advice|instructions|information|medical|legal|financial)"
)
_ASKED_EN = r"(?:that|this(?! (?:matter|case|issue) with)|such|your|any|guidance|(?:medical|legal|financial) advice|instructions|information|content|assistance|harmful|illegal)\b"
_MODEL_RU = r"(?:ии|искусственный интеллект|языковая модель|ии-модель|модель искусственного интеллекта|чат-?бот)"
REFUSAL = re.compile(
    rf"\bкак (?:большая )?{_MODEL_RU}(?:\s*,|\s+я\b)|"
    rf"\bя (?:всего лишь |лишь |просто |— )?(?:большая )?(?:{_MODEL_RU}|ии-ассистент)|"
    r"не (?:могу|буду) (?:(?:помочь|помогать|ответить|отвечать) (?:с|на) (?:эт|так)|(?:вам |тебе )?с этим помочь)|"
    r"не могу (?:с?генерировать|созда(?:ва)?ть) (?:так(?:ой|ие) (?:контент|текст|материал)|подобн|контент)|"
    r"не (?:могу|смогу|буду|имею возможности) (?:помочь|помогать) (?:вам |тебе )?(?:с|в) эт|я не (?:могу|буду) продолжать этот разговор|"
    r"я не (?:могу|буду) (?:обсуждать (?:эту тему|эти темы|подобн)|предостав\w+ (?:инструкц|такую информац|подобн))|"
    r"^не могу обсуждать эту тему|с этим (?:я )?(?:вам |тебе )?помочь не (?:могу|смогу)|"
    r"я не (?:могу|буду|смогу) (?:вам |тебе )?помо(?:чь|гать) (?:вам |тебе )?с (?:создани|изготовлени|взлом|разработк)|"
    r"я (?:всего )?лишь (?:программа|чат-?бот)|"
    r"не могу выполнить (?:эт|так|ваш|данн)|"
    rf"(?:извините|простите|прошу прощения|к сожалению|жаль),? (?:но )?я не (?:могу|буду) (?:вам |с этим )?(?:{_REFUSED_RU})|"
    rf"as an ai\b(?! (?:researcher|engineer|student|developer|expert|scientist|artist|company|lab|startup))|as a (?:large )?language model|i(?:['’]m| am) (?:just )?an ai\b|"
    rf"i(?:['’]m| am) sorry,? but i (?:can(?:['’]t|not)|am unable to|won['’]t) (?:{_REFUSED_EN})|"
    rf"i(?: can(?:['’]t|not)| won['’]t|(?:['’]m| am) (?:unable|not able) to| won['’]t be able to) (?:help|assist|comply)(?: you)? with (?:that|this)"
    r"(?: request| topic| task)?(?=[.,;!]|$)|"
    r"i(?: can(?:['’]t|not)| won['’]t) (?:help|assist)(?: you)? with (?:creating|developing|hacking|illegal|harmful)|"
    rf"i(?: can(?:['’]t|not)| won['’]t|(?:['’]m| am) (?:unable|not able) to) (?:provide|generate|fulfill|discuss|engage in) {_ASKED_EN}|"
    r"i (?:must|have to) (?:respectfully )?decline(?! (?:the|your|his|her|an?) (?:kind |generous )?(?:invitation|offer|hono))",
    re.IGNORECASE | re.MULTILINE,
)
LOOKALIKE = "aceopxyABCEHKMOPTX"
# Words of both alphabets that are meant so: iФон, VKшный, TCPшный.
_MEANT = r"[a-z][А-ЯЁ]|[A-Z]{2,}[а-яё]+(?![\w])"
MIXED = re.compile(
    rf"(?<![\w/])(?!{_MEANT})(?=[^\W\d_]*[а-яА-ЯёЁіїєґў])(?=[^\W\d_]*[a-zA-Z])[а-яА-ЯёЁіІїЇєЄґҐўЎ{LOOKALIKE}iI]+(?![\w/])"
)
TO_CYRILLIC = str.maketrans(LOOKALIKE, "асеорхуАВСЕНКМОРТХ")
_UKRAINIAN = re.compile("[іїєґў]", re.IGNORECASE)
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
    """Latin letters inside Cyrillic words as the Cyrillic ones that they look like; whole Latin words stay.

    Latin i is a letter of Ukrainian and Belarusian texts alone.
    """
    table = TO_CYRILLIC | str.maketrans("iI", "іІ") if _UKRAINIAN.search(text) else TO_CYRILLIC
    return MIXED.sub(lambda word: word.group().translate(table), text)
