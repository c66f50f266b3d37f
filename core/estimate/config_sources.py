"""Where the config of a model comes from: a folder, a GGUF file, pasted text, the hub's cache, or the hub itself.

`python -m core.estimate.config_sources OWNER/NAME` fetches one from the hub and prints its error, if it has one, as a
JSON object: the page starts that as a process of its own.
"""

import argparse
import json
import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from core import files, foreign, process
from core.errors import named
from core.estimate import errors
from core.models import models

PATIENCE = 12  # seconds for the hub to answer
MOST_BYTES = 2**20  # of a config.json
GGUF_SECONDS = 20.0  # for the header of a GGUF file; that of 256,000 tokens takes half a second
AGAIN = 300  # seconds until a model that the hub did not give is asked for again
GGUF_FORMS = ("B", "b", "H", "h", "I", "i", "f", "?", "string", "array", "Q", "q", "d")  # by the number of a type
GGUF_LISTED = 1024  # longest array that is read: of a number for each layer; the tokens are only counted
GGUF_KINDS = {
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
    "qwen3next": "qwen3_next",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
    "phi2": "phi",
    "gpt-oss": "gpt_oss",
    "mistral3": "ministral3",
}
GGUF_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "full_attention_interval": "full_attention_interval",
    "linear_conv_kernel_dim": "ssm.conv_kernel",
    "linear_key_head_dim": "ssm.state_size",
    "linear_num_key_heads": "ssm.group_count",
    "linear_num_value_heads": "ssm.time_step_rank",
}
_refused: dict[str, tuple[float, dict]] = {}  # by hub id: when, and what the process said


def pasted(text: str) -> dict:
    """The config in the text of a config.json.

    Raises:
        IncompleteConfig: if it is no object of JSON. files.TextTooLong.
    """
    return _object(files.check_length(text, "config.json"), "config.json")


def from_disk(path: Path) -> dict:
    """The config of a folder, of a config.json or of the header of a GGUF file.

    Raises:
        NoConfig, IncompleteConfig, GgufUnreadable (as ErrorElsewhere).
    """
    if path.suffix.lower() == ".gguf":
        return gguf_config(path)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise named("NoConfig", path=file)
    return _object(_text(file), str(file))


def _text(file: Path) -> str:
    """The text of a small file; what cannot be read or is too large for a config counts as empty."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        return data.decode("utf-8-sig") if len(data) <= MOST_BYTES else ""
    except (OSError, ValueError):
        return ""


def _object(text: str, path: str) -> dict:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise errors.NotJson(path=path) from None
    if not isinstance(config, dict):
        raise errors.NotAnObject(path=path, kind=type(config).__name__)
    return config


def base_of_adapter(place: Path) -> str:
    """The base that a folder with an adapter alone names; "" where the folder is a model, or is its own base."""
    file = place / "adapter_config.json"
    if not file.is_file() or (place / "config.json").exists():
        return ""
    base = str(_object(_text(file), str(file)).get("base_model_name_or_path"))
    return "" if base in ("None", "") or (Path(base) / "adapter_config.json").exists() else base


def hub_cache() -> Path:
    """Where the hub's library keeps what it downloads."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def in_hub_cache(pattern: str, folder: str = "") -> list[Path]:
    """What fits a pattern in the hub's cache, or in a folder of it; nothing where the cache is another user's."""
    try:
        return list((hub_cache() / folder).glob(pattern))
    except OSError:
        return []


def cached(hub_id: str, file: str = "config.json") -> dict | None:
    """The newest config of a model in the hub's own cache; of an adapter that of its base."""
    found = in_hub_cache(f"snapshots/*/{file}", f"models--{hub_id.replace('/', '--')}")
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(errors.NotJson, errors.NotAnObject):
            return from_disk(path)
    if file == "config.json" and (adapter := cached(hub_id, "adapter_config.json")):
        base = str(adapter.get("base_model_name_or_path") or "")
        return cached(base) if models.is_hub_id(base) and base != hub_id else None
    return None


def fetch(hub_id: str) -> None:
    """Bring the config.json of a model of the hub into the hub's cache, unless it is there or there is no such model.

    Raises:
        ConfigGated, ConfigUnreachable.
    """
    if not models.is_hub_id(hub_id) or os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return
    if cached(hub_id) is not None:
        return
    asked, answer = _refused.get(hub_id, (0.0, None))
    if answer is None or time.monotonic() - asked > AGAIN:
        answer = _ask_hub(hub_id)
        _refused[hub_id] = time.monotonic(), answer
    if answer.get("error") == "gated":
        raise named("ConfigGated", name=hub_id)
    if answer.get("error") == "unreachable":
        raise named("ConfigUnreachable", name=hub_id, reason=answer["reason"])


def _ask_hub(hub_id: str) -> dict:
    command = ["-m", "core.estimate.config_sources", hub_id]
    try:
        return [*process.json_lines(command, seconds=PATIENCE), {}][0]
    except process.CommandFailed as failed:
        reason = f"no answer in {PATIENCE} seconds" if failed.cause == "time" else str(failed)[-200:]
        return {"error": "unreachable", "reason": reason}


def download(hub_id: str) -> dict:
    """What the hub says of a model's config.json: an empty dict when it lies in the cache now, or the trouble."""
    from huggingface_hub import errors as refusals  # noqa: PLC0415 - the page opens without the hub
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - the page opens without the hub

    try:
        hf_hub_download(hub_id, "config.json")
    except refusals.GatedRepoError:
        return {"error": "gated"}
    except refusals.EntryNotFoundError:
        return _download_of_adapter(hub_id)
    except (refusals.RepositoryNotFoundError, refusals.HFValidationError):
        return {"error": "unknown"}
    except Exception as error:  # httpx and its friends have no common base that huggingface_hub promises
        return {"error": "unreachable", "reason": (str(error).strip() or type(error).__name__).splitlines()[0][:200]}
    return {}


def _download_of_adapter(hub_id: str) -> dict:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - the page opens without the hub

    try:
        adapter = from_disk(Path(hf_hub_download(hub_id, "adapter_config.json")))
    except Exception:  # neither a model nor an adapter: a data set, or GGUF files alone
        return {"error": "unknown"}
    base = str(adapter.get("base_model_name_or_path") or "")
    return download(base) if models.is_hub_id(base) and base != hub_id else {"error": "unknown"}


def gguf_config(path: Path) -> dict:
    """The config of transformers that the header of a GGUF file amounts to, read in a process of its own."""
    return foreign.ask("gguf", path, file=path, seconds=GGUF_SECONDS)


def read_gguf(name: str) -> dict:
    path = Path(name)
    try:
        with path.open("rb") as file:
            facts = _gguf_facts(file)
    except (OSError, struct.error, ValueError, LookupError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        reason = "its header is damaged or that of no language model"
        raise named("GgufUnreadable", path=path, reason=reason) from error
    kind = facts.get("general.architecture", "")
    config = {name: facts.get(f"{kind}.{key}") for name, key in GGUF_KEYS.items()}
    config["vocab_size"] = config["vocab_size"] or facts.get("tokenizer.ggml.tokens")
    known = {name: max(value) if isinstance(value, list) else value for name, value in config.items() if value}
    if (inner := facts.get(f"{kind}.ssm.inner_size")) and known.get("linear_num_value_heads"):
        known["linear_value_head_dim"] = inner // known["linear_num_value_heads"]
    if kind == "llama" and known.get("num_experts"):
        kind = "mixtral"
        known["num_local_experts"] = known.pop("num_experts")
    tied = "output.weight" not in facts["tensors"] and not facts.get("split.count")
    return {"model_type": GGUF_KINDS.get(kind, kind), "tie_word_embeddings": tied, **known}


def _gguf_facts(file: BinaryIO) -> dict:
    """The key-value pairs of a GGUF header and the names of its tensors; of a long array only its length."""

    def read(form: str):
        return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

    def text() -> str:
        length = read("Q")
        if length > 2**26:
            raise ValueError("a text longer than a header")
        return file.read(length).decode("utf-8")

    def value(kind: int):
        form = GGUF_FORMS[kind]
        if form == "array":
            inner, length = read("I"), read("Q")
            if length > 2**26:
                raise ValueError("an array longer than a header")
            values = [value(inner) for _ in range(length)]
            return values if 0 < length <= GGUF_LISTED and not isinstance(values[0], str) else length
        return text() if form == "string" else read(form)

    magic, _version, tensors, pairs = file.read(4), read("I"), read("Q"), read("Q")
    if magic != b"GGUF" or pairs > 10_000 or tensors > 100_000:
        raise ValueError("not a GGUF file")
    facts: dict = {text(): value(read("I")) for _ in range(pairs)}
    facts["tensors"], last = set(), 0
    for _ in range(tensors):
        facts["tensors"].add(text())
        file.seek(8 * read("I") + 4, os.SEEK_CUR)  # its sizes and type
        last = max(last, read("Q"))
    if file.tell() + last > file.seek(0, os.SEEK_END):
        raise ValueError("tensors that lie behind the end of the file")
    return facts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m core.estimate.config_sources", description=__doc__.split(":")[0])
    parser.add_argument("model", help="OWNER/NAME on the hub")
    print(json.dumps(download(parser.parse_args().model)))
