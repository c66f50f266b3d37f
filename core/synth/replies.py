"""Which replies of a model become rows, and why the others do not."""

import re

from core.corpus.text_normalization import one as normal

SHORTEST = 20  # characters
_THINK = re.compile(r"<(think|thinking|reasoning)>.*?</\1>\s*", re.DOTALL | re.IGNORECASE)
_LEFT = re.compile(r"</?(?:think|thinking|reasoning)>|<\|[a-z_]+\|>", re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:i'?m sorry|i am sorry|sorry, (?:but )?i|i can(?:no|')t|i am unable|i'm unable|as an ai\b|as a language model"
    r"|извините, (?:но )?я|к сожалению, я не|я не могу (?:помочь|выполнить|ответить|написать)|как (?:ии|языковая модель)"
    r"|как искусственный интеллект|простите, (?:но )?я не)",
    re.IGNORECASE,
)
_CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")


def checked(reply, prompt: str, lang: str) -> tuple[str, str]:
    """(text, "") of a good reply, or ("", reason): html, half_json, no_choices, cut, thinking, refusal, copy, …"""
    if reply.wrong:
        return "", reply.wrong
    if reply.finish == "length":
        return "", "cut"
    text = _THINK.sub("", reply.text).strip()
    if _LEFT.search(text):
        return "", "thinking"
    if not text:
        return "", "empty"
    if _REFUSAL.search(text[:200]):
        return "", "refusal"
    if copies(text, prompt):
        return "", "copy"
    if len(text) < SHORTEST:
        return "", "short"
    if lang in ("ru", "en") and len(_CJK.findall(text)) > 2:
        return "", "other_language"
    return text, ""


def copies(text: str, prompt: str) -> bool:
    """Whether a reply mostly repeats what it was asked: most of its five-word runs stand in the prompt."""
    words, asked = normal(text).split(), normal(prompt)
    if len(words) < 5:
        return normal(text) in asked and len(words) > 1
    runs = [" ".join(words[at : at + 5]) for at in range(len(words) - 4)]
    return sum(run in asked for run in runs) > 0.6 * len(runs)
