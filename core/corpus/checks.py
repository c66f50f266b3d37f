"""What may be wrong with a row: each check gives an attribute, none of them throws anything away."""

import re
from collections import Counter

from core.corpus import languages, mojibake, personal, turns

THINK = re.compile(r"</?think(?:ing)?>|◁think▷")
SPECIAL = re.compile(
    r"<\|[a-z_0-9]{2,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|unk)>", re.IGNORECASE
)
# A refusal names what was asked of the assistant: this, a request, a text, advice, a forbidden thing. A person who
# cannot help with a move, a meal or a wedding names that.
_THIS_RU = r"(?:эт(?:им|ом|от|у|их|ой|и|о|ого)|так(?:им|ой|ую|их|ие|ого|ом|ими)|подобн\w+|данн(?:ым|ый|ую|ой|ого)|ваш\w*|тво\w+)"
_ASKED_RU = (
    r"(?:запрос|просьб|вопрос|задани|задач|тем[аеуыо]|разговор|бесед|обсуждени|дискусси|контент|текст|материал|изображени|"
    r"картин|код|рассказ|сочинени|информаци|инструкци|сведени|совет|рекомендаци|консультаци|деятельност|действи|вещ[аейи])"
)
_FORBIDDEN_RU = r"(?:созда[нв]|изготовлени|написани|взлом|разработк|генераци|незаконн|противозаконн|вредонос|опасн|насили|оружи|нелегальн)"
_ADVICE_RU = r"(?:медицинск|юридическ|правов|финансов|инвестиционн|инструкц|рекомендац|консультац|конкретн\w+ совет|совет\w* по |так\w+ совет)"
_CANNOT_RU = r"\bне (?:могу|смогу|буду|вправе|имею права|имею возможности) (?:вам |тебе )?"
_REFUSED_RU = (
    rf"(?:помочь|помогать|содействовать) (?:вам |тебе )?(?:со? |в )(?:эт(?:им|ом)(?=[.,;!?]|$)|{_THIS_RU} (?:\w+ )?{_ASKED_RU}|{_FORBIDDEN_RU})|"
    rf"со? (?:этим|{_THIS_RU} {_ASKED_RU}\w*) помо(?:чь|гать)|это обсуждать|(?:ответить|отвечать) на {_THIS_RU} (?:\w+ )?{_ASKED_RU}|"
    rf"(?:выполн\w+|продолж\w+|поддерж\w+|обсуждать|обсудить|комментировать) {_THIS_RU} (?:\w+ )?{_ASKED_RU}|обсуждать (?:это(?=[.!]|$)|подобн)|"
    rf"(?:созда\w+|написать|писать) (?:{_THIS_RU} |для вас |за вас )?(?:\w+ )?(?:контент|текст|материал|изображени|код\b|вредонос|фишинг|сочинени)|с?генериров|"
    rf"предостав\w+ (?:вам |тебе )?(?:{_THIS_RU} (?:\w+ )?{_ASKED_RU}|эти данные|{_ASKED_RU}|точн|актуальн|доступ к|ссылк|{_ADVICE_RU})|"
    rf"(?:дать|давать) (?:вам |тебе )?(?:{_THIS_RU} (?:\w+ )?{_ASKED_RU}|{_ADVICE_RU})|"
    rf"участвовать в (?:{_THIS_RU} (?:\w+ )?{_ASKED_RU}|обсужден|разговор\w* (?:так|подобн|на эт|о ))|"
    r"рас(?:крыва|кры|сказ)\w+ (?:о том, как|систем|свои инструкц|эту информац|личн\w+ (?:данн|информац))"
)
_SORRY_RU = r"(?:извините|простите|прошу прощения|к сожалению|жаль|боюсь),? (?:но )?(?:что )?я "
_THIS_EN = r"(?:this|that|such|any|your)"
_ASKED_EN = (
    r"(?:requests?|topics?|tasks?|questions?|quer(?:y|ies)|content|conversations?|discussions?|instructions?|information|advice|"
    r"guidance|assistance|images?|activit(?:y|ies)|texts?|stor(?:y|ies)|code|details)"
)
_FORBIDDEN_EN = r"(?:creating|developing|making|building|writing|hacking|harmful|illegal|malicious|unethical|violent|explicit|hateful)"
_ADVICE_EN = r"(?:medical|legal|financial|investment|professional|specific) (?:advice|guidance|recommendations)"
_CANNOT_EN = r"\bi(?: can(?:['’]t|not| not)|(?:['’]m| am) (?:unable|not able) to| won['’]t(?: be able to)?| (?:cannot and )?will not) "
_REFUSED_EN = (
    rf"(?:help|assist|comply)(?: you)?(?: with| in)? (?:(?:this|that)(?=[.,;!]|$)|{_THIS_EN} (?:\w+ )?{_ASKED_EN}|{_FORBIDDEN_EN})|"
    rf"(?:provide|give|share|offer|generate|create|write|produce|fulfill|answer|discuss|support|continue(?: with)?|engage in)(?: you(?: with)?)? "
    rf"(?:(?:{_THIS_EN} )?(?:(?!the )\w+ )?{_ASKED_EN}\b(?! desk)|{_FORBIDDEN_EN}|{_ADVICE_EN}|(?:that|this)(?=[.,;!]|$))"
)
_MODEL_RU = r"(?:ии|искусственный интеллект|языковая модель|ии-модель|модель искусственного интеллекта|чат-?бот)"
REFUSAL = re.compile(
    rf"\bкак (?:большая )?{_MODEL_RU}(?:\s*,|\s+я\b)|"
    rf"\bя (?:всего лишь |лишь |просто |— )?(?:большая )?(?:{_MODEL_RU}|ии-ассистент)|я (?:всего )?лишь (?:программа|чат-?бот)|"
    rf"{_CANNOT_RU}(?:{_REFUSED_RU})|с этим (?:я )?(?:вам |тебе )?помочь не (?:могу|смогу)|"
    rf"{_SORRY_RU}не могу (?:вам )?помочь(?=[.!]|$)|противоречит моим (?:правил|принцип|инструкц|установк)|"
    r"as an ai\b(?! (?:researcher|engineer|student|developer|expert|scientist|artist|company|lab|startup))|as a (?:large )?language model|i(?:['’]m| am) (?:just )?an ai\b|"
    rf"{_CANNOT_EN}(?:{_REFUSED_EN})|i(?:['’]m| am) sorry,? but {_CANNOT_EN[2:]}(?:(?:help|assist)(?: you)?(?=[.,;!]|$)|do that\b)|"
    rf"inappropriate for me to|against my (?:guidelines|programming|policies|principles)|"
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
