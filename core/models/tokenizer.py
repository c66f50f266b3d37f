"""A model's tokenizer and chat template without transformers: light enough for the page's process.

It gives the ids, offsets and texts of transformers' AutoTokenizer for every model that has a tokenizer.json; a test
compares the two. `load(directory)` takes what `encoding.encode` needs of a tokenizer and no more.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core import errors
from core.training.tokenizer_loading import repair_mistral

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
METASPACE_MODELS = ("llama", "")  # model types for which transformers builds LlamaTokenizer anew


class LightTokenizer:
    """The part of transformers' tokenizer protocol that encoding a row takes."""

    def __init__(self, backend, *, chat_template: str | dict | None, special_tokens: dict[str, str]):
        self.backend, self.special_tokens_map = backend, special_tokens
        self.chat_template = chat_template
        self.added_tokens_decoder = backend.get_added_tokens_decoder()  # {id: token with .special}

    @property
    def eos_token_id(self) -> int | None:
        return self._id_of("eos_token")

    @property
    def bos_token_id(self) -> int | None:
        return self._id_of("bos_token")

    def __call__(self, text: str, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> dict:
        """{"input_ids", "attention_mask"} of a text, and the character span of each token when asked."""
        encoding = self.backend.encode(text, add_special_tokens=add_special_tokens)
        result = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
        return result | {"offset_mapping": encoding.offsets} if return_offsets_mapping else result

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def apply_chat_template(
        self, messages: list[dict], *, tokenize: bool = False, add_generation_prompt: bool = False, **values: Any
    ) -> str:
        """A chat as the template writes it; what the template raises is let through."""
        template = self.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        if template is None:
            raise ValueError("This tokenizer has no chat template.")
        if not messages:
            raise ValueError("There is no message to put into the chat template.")
        chat = [{key: value for key, value in message.items() if value is not None} for message in messages]
        text = _compiled(template).render(
            messages=_with_reasoning(chat),
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **{**self.special_tokens_map, **values},
        )
        return self(text, add_special_tokens=False)["input_ids"] if tokenize else text

    def _id_of(self, name: str) -> int | None:
        token = self.special_tokens_map.get(name)
        return self.backend.token_to_id(token) if token is not None else None


def load(directory: str | Path) -> LightTokenizer:
    """The tokenizer of a model directory, read again only when its files have changed.

    Raises:
        NoTokenizer, TokenizerUnreadable: when the directory has none that can be read.
    """
    directory = Path(directory)
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "config.json")
    marks = tuple(_mark(directory / name) for name in names)
    if marks[0] is None:
        raise errors.named("NoTokenizer", path=directory)
    return _loaded(directory, marks)


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=3)
def _loaded(directory: Path, marks: tuple) -> LightTokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - loaded with the first model

    try:
        backend = Tokenizer.from_file(str(directory / "tokenizer.json"))
        config = _json(directory / "tokenizer_config.json")
        special = _special_tokens(directory, config)
        _add_tokens(backend, config, special)
        if _is_metaspace_llama(directory, config, backend):
            _as_llama(backend, config)
        repair_mistral(backend, directory)
    except Exception as error:  # the Rust library raises bare Exceptions
        raise errors.named("TokenizerUnreadable", path=directory, reason=str(error)[:200]) from error
    backend.no_truncation()
    backend.no_padding()
    return LightTokenizer(backend, chat_template=_chat_template(directory, config), special_tokens=special)


def _json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return value if isinstance(value, dict) else {}


def _content(token: object) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _special_tokens(directory: Path, config: dict) -> dict[str, str]:
    """Name and text of the special tokens; special_tokens_map.json counts only where old configs left them out."""
    old = {} if "added_tokens_decoder" in config else _json(directory / "special_tokens_map.json")
    texts = {name: _content(old.get(name)) or _content(config.get(name)) for name in SPECIAL_NAMES}
    return {name: text for name, text in texts.items() if text is not None}


def _add_tokens(backend, config: dict, special: dict[str, str]) -> None:
    """Tokens that the config names and tokenizer.json lacks, and the named special ones as special."""
    from tokenizers import AddedToken  # noqa: PLC0415 - loaded with the first model

    present = {token.content for token in backend.get_added_tokens_decoder().values()}
    declared = config.get("added_tokens_decoder", {})
    for _, token in sorted(declared.items(), key=lambda item: int(item[0])):
        if isinstance(token, dict) and token.get("content") not in present:
            backend.add_tokens([AddedToken(**token)])
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    more = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra = [text for token in (more.values() if isinstance(more, dict) else more) if (text := _content(token))]
    for text in [*special.values(), *extra]:
        backend.add_special_tokens([known.get(text) or AddedToken(text, special=True, normalized=False)])


def _is_metaspace_llama(directory: Path, config: dict, backend) -> bool:
    if str(config.get("tokenizer_class")).removesuffix("Fast") != "LlamaTokenizer":
        return False
    byte_level = "ByteLevel" in repr(backend.pre_tokenizer) or "ByteLevel" in repr(backend.decoder)
    return not byte_level and _json(directory / "config.json").get("model_type", "") in METASPACE_MODELS


def _as_llama(backend, config: dict) -> None:
    """transformers builds this class's splitting from its settings, whatever tokenizer.json says."""
    from tokenizers import pre_tokenizers  # noqa: PLC0415 - loaded with the first model

    prefix = config.get("add_prefix_space")
    scheme = "never" if prefix is False else "always" if config.get("legacy", False) else "first"
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)


def _chat_template(directory: Path, config: dict) -> str | dict | None:
    try:
        return (directory / "chat_template.jinja").read_text(encoding="utf-8")
    except OSError:
        pass
    template = config.get("chat_template")
    if isinstance(template, list):
        return {named["name"]: named["template"] for named in template}
    return template


def _with_reasoning(chat: list[dict]) -> list[dict]:
    """Reasoning under the names that templates read it by."""
    named = []
    for message in chat:
        thinking = next(
            (message[key] for key in ("reasoning_content", "thinking", "reasoning") if key in message), None
        )
        named.append(message if thinking is None else {"thinking": thinking, **message, "reasoning_content": thinking})
    return named


@lru_cache(maxsize=16)
def _compiled(template: str):
    """The template in the sandbox that transformers sets up: the same filters, globals and white-space rules."""

    class Generation(jinja2.ext.Extension):
        """`{% generation %}…{% endgeneration %}` marks replies for others; here it is only its content."""

        tags = frozenset({"generation"})

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_content_of"), [], [], body).set_lineno(line)

        def _content_of(self, caller) -> str:
            return caller()

    def raise_exception(message: str):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": _dictionary,
    }
    return environment.from_string(template)


def _dictionary(*args: Mapping | list, **values: Any) -> dict:
    return dict(*args, **values)
