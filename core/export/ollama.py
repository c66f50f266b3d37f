"""What Ollama needs to reply as the chat here does: a Modelfile with template, stop words and sampling.

Ollama's templates are written in Go's language. One is derived from what the model's own template writes, and held
against it on chats of several shapes; where it cannot be, the Modelfile says so instead of guessing.
"""

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from core.chat.types import Sampling
from core.training import encoding
from core.training.errors import TemplateRefused

SYSTEM, USER, REPLY = "\ue0f1", "\ue0f2", "\ue0f3"  # stand in for what is said
MOST_CONTEXT = 8192  # tokens that Ollama keeps room for, unless somebody asks for more
SHAPES = ("u", "su", "uru", "suru", "sururu")  # chats that a template is tried on


def modelfile(merged: Path, file: str, notes: list[str]) -> str:
    """What `ollama create` reads, for a GGUF file at a path relative to it; `notes` become comments at its head."""
    tokenizer, config = AutoTokenizer.from_pretrained(merged), AutoConfig.from_pretrained(merged)
    sampling, context = Sampling(), getattr(config, "max_position_embeddings", None) or MOST_CONTEXT
    parameters = [("stop", json.dumps(token, ensure_ascii=False)) for token in _stops(merged, tokenizer)]
    parameters += [("temperature", sampling.temperature), ("top_p", sampling.top_p), ("top_k", sampling.top_k)]
    parameters += [("repeat_penalty", sampling.repetition_penalty), ("num_ctx", min(context, MOST_CONTEXT))]
    lines = [*(f"# {note}" for note in notes), f"FROM ./{file}"]
    lines += [f"PARAMETER {name} {value}" for name, value in parameters]
    if tokenizer.chat_template:
        template, system, hears_system = chat_template(tokenizer)
        if template is None:
            lines.append("# The chat template cannot be written in Ollama's language: Ollama looks for one like it.")
        else:
            lines += ["# System messages are left out: the chat template has no place for them."] * (not hears_system)
            lines.append(f'TEMPLATE """{template}"""')
        if system:
            lines.append(f'SYSTEM """{system}"""')
    return "\n".join(lines) + "\n"


def _stops(merged: Path, tokenizer) -> list[str]:
    try:
        generation = GenerationConfig.from_pretrained(merged)
    except OSError:
        generation = GenerationConfig(eos_token_id=AutoConfig.from_pretrained(merged).eos_token_id)
    ids = encoding.stop_ids(SimpleNamespace(generation_config=generation), tokenizer)
    return tokenizer.convert_ids_to_tokens(ids)


def chat_template(tokenizer) -> tuple[str | None, str, bool]:
    """A template in Ollama's language, what stands in place of a system message where nobody sent one, and whether
    system messages reach the model: some templates refuse them, or put them where Ollama cannot."""
    for find, shapes in ((_parts, SHAPES), (_parts_without_system, ("u", "uru", "ururu"))):
        with suppress(TemplateRefused):
            parts = find(tokenizer)
            if parts is None or any("{{" in str(text) or '"""' in str(text) for text in parts.values()):
                continue
            written = {shape: _without_bos(tokenizer, _rendered(tokenizer, shape, True)) for shape in shapes}
            if {shape: _written(shape, parts) for shape in shapes} == written:
                return _in_go(parts), parts["default"], shapes is SHAPES
    return None, "", False


def _parts(tokenizer) -> dict | None:
    """The texts around what is said, by role; None where the template's shape is another one."""
    asked, plain = (_without_bos(tokenizer, _rendered(tokenizer, "u", prompt)) for prompt in (True, False))
    long = _without_bos(tokenizer, _rendered(tokenizer, "suru", False))
    if not asked.startswith(plain) or not long.count(SYSTEM) == long.count(REPLY) == 1:
        return None
    (before_system, rest), (head, after_user) = long.split(SYSTEM), plain.split(USER)
    if rest.count(USER) != 2 or rest.index(REPLY) > rest.rindex(USER):  # the system message is in the last turn
        return None
    between, middle, _ = rest.split(USER)
    before_reply, after_reply = middle.split(REPLY)
    # What ends the turn before belongs to that one.
    before_user = _common_end(_common_end(between, after_reply), head).removeprefix(after_user)
    parts = {"before_user": before_user, "after_user": after_user, "before_system": before_system, "folded": ""}
    parts |= {"before_reply": before_reply.removeprefix(after_user), "after_reply": after_reply}
    parts["after_reply"], parts["default"] = after_reply.removesuffix(before_user), ""
    if before_system == head:  # the system message stands in the user's turn
        return parts | {"before_user": head, "before_system": "", "after_system": between, "folded": "yes"}
    parts["after_system"], head = between.removesuffix(before_user), head.removesuffix(before_user)
    if head.startswith(before_system) and head.endswith(parts["after_system"]):
        parts["default"] = head[len(before_system) :].removesuffix(parts["after_system"])
    return parts


def _parts_without_system(tokenizer) -> dict | None:
    plain = _without_bos(tokenizer, _rendered(tokenizer, "u", False))
    long = _without_bos(tokenizer, _rendered(tokenizer, "uru", True))
    if long.count(USER) != 2 or long.count(REPLY) != 1:
        return None
    before_user, after_user = plain.split(USER)
    _, middle, _ = long.split(USER)
    before_reply, after_reply = middle.removeprefix(after_user).split(REPLY)
    parts = {"before_user": before_user, "after_user": after_user, "before_reply": before_reply, "default": ""}
    return parts | {"after_reply": after_reply.removesuffix(before_user), "before_system": None, "folded": ""}


def _written(shape: str, parts: dict) -> str:
    """A chat as Ollama writes it with these parts."""
    text, system = "", ""
    if parts["default"] and "s" not in shape:
        shape, text = shape, parts["before_system"] + parts["default"] + parts["after_system"]
    for role in shape:
        if role == "s" and parts["folded"]:
            system = SYSTEM + parts["after_system"]
        elif role == "s":
            text += parts["before_system"] + SYSTEM + parts["after_system"]
        elif role == "u":
            text, system = text + parts["before_user"] + system + USER + parts["after_user"], ""
        else:
            text += parts["before_reply"] + REPLY + parts["after_reply"]
    return text + parts["before_reply"]


def _in_go(parts: dict) -> str:
    user = f"{parts['before_user']}{{{{ .Content }}}}{parts['after_user']}"
    reply = f"{parts['before_reply']}{{{{ .Content }}}}{parts['after_reply']}"
    if parts["folded"]:  # turn by turn: Ollama names the system message in the first turn alone
        system = f"{{{{ if .System }}}}{{{{ .System }}}}{parts['after_system']}{{{{ end }}}}"
        return (
            f"{{{{ if .Prompt }}}}{parts['before_user']}{system}{{{{ .Prompt }}}}{parts['after_user']}{{{{ end }}}}"
            f"{parts['before_reply']}{{{{ .Response }}}}{parts['after_reply']}"
        )
    turns = f'{{{{ if eq .Role "user" }}}}{user}{{{{ else if eq .Role "assistant" }}}}{reply}'
    if parts["before_system"] is not None:
        turns += f"{{{{ else }}}}{parts['before_system']}{{{{ .Content }}}}{parts['after_system']}"
    return f"{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}{parts['before_reply']}"


def _rendered(tokenizer, shape: str, prompt: bool) -> str:
    said = {"s": ("system", SYSTEM), "u": ("user", USER), "r": ("assistant", REPLY)}
    messages = [dict(zip(("role", "content"), said[role], strict=True)) for role in shape]
    return encoding.apply_template(tokenizer, messages, prompt)


def _without_bos(tokenizer, text: str) -> str:
    """A rendered chat without the token that llama.cpp puts before every prompt by itself."""
    begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(tokenizer.bos_token) if begins else text


def _common_end(first: str, second: str) -> str:
    size = 0
    while size < min(len(first), len(second)) and first[-size - 1] == second[-size - 1]:
        size += 1
    return first[len(first) - size :]
