"""GGUF files (f16 and q8_0) of a run for Ollama, LM Studio and llama.cpp, with a Modelfile.

Each file is read back with transformers: its logits and its greedy replies have to be those of the merged model with the
weights rounded as the file rounds them; how far that is from the merged model itself is measured and said.
Written with the official gguf package: the format's names come from it, the layout of each family from llama.cpp's
own reader. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import gc
import json
import shutil
from pathlib import Path

import torch

from core import paths
from core.chat import chat_models, engine
from core.errors import UserError
from core.export import gguf_file, merging
from core.training import encoding

KINDS = ("f16", "q8_0")
EXACT = (
    1e-3  # of the logits' length: between a file and the merged model with its weights rounded as the file rounds them
)
REPLY_TOKENS = 24


class GgufDiffers(UserError):
    template = (
        "The {kind} file does not speak like the merged model: its logits differ by {difference} and at most {limit} "
        "is rounding. It was removed. Take the merged model and llama.cpp's convert_hf_to_gguf.py instead."
    )


def write(run_id: str, out: Path, report) -> dict:
    """Write both files and a Modelfile into a directory; returns their names, sizes and how they compare."""
    one = chat_models.find(f"run:{run_id}")
    base = one.weights if one.whole else Path(chat_models.base_directory(one))
    gguf_file.check(base)  # before the long work
    engine.need_room(one, base, "cpu", 4.5)  # the files are compared in fp32
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    merged = unfinished / "merged"
    merged.mkdir(parents=True)
    try:
        found = {"difference": 0.0}
        if one.whole:
            merged = one.weights
        else:
            found = merging.into(one, merged, report)
        found["files"] = _both(one.title, merged, unfinished, report)
        (unfinished / "Modelfile").write_text(modelfile(merged, _name(one.title, "q8_0")), encoding="utf-8")
        shutil.rmtree(unfinished / "merged", ignore_errors=True)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if out.exists():
        out.rmdir()  # an empty directory
    unfinished.rename(out)
    return {"path": str(out), "bytes": sum(file.stat().st_size for file in out.iterdir()), **found}


def _both(title: str, merged: Path, out: Path, report) -> list[dict]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(merged)
    wanted, replies = _asked(merging.load(merged).float(), tokenizer)
    files = []
    for kind in KINDS:
        path = out / _name(title, kind)
        gguf_file.write(
            merged,
            tokenizer,
            path,
            kind,
            lambda done, total: report("progress", stage="writing", done=done, total=total),
        )
        report("progress", stage="comparing", done=0, total=0)
        rounded, same_replies = _asked(gguf_file.rounded(merging.load(merged).float(), kind), tokenizer)
        found, found_replies = _asked(read(path, merged), tokenizer)
        if not merging.distance(found, rounded) <= EXACT or found_replies != same_replies:
            difference = f"{merging.distance(found, wanted):.2%}"
            raise GgufDiffers(kind=kind, difference=difference, limit=f"{merging.distance(rounded, wanted):.2%}")
        equal = sum(one == other for one, other in zip(found_replies, replies, strict=True))
        difference = round(merging.distance(found, wanted), 6)
        files.append({"file": path.name, "difference": difference, "replies_equal": equal, "replies": len(replies)})
        gc.collect()
    return files


def _asked(model, tokenizer) -> tuple[list, list]:
    """The logits and the greedy replies of a model."""
    return merging.logits(model, tokenizer), greedy(model, tokenizer)


def read(path: Path, merged: Path):
    """The model of a GGUF file, as transformers reads it.

    What its reader doesn't know of (a scaled rotary embedding, the size of a head) comes from the merged model.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    return AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        config=_read_as(merged),
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    ).eval()


def _read_as(merged: Path):
    """The merged model's settings; of Mistral as a Llama, which its GGUF files are."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(merged)
    if config.model_type != "mistral":
        return config
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    return AutoConfig.for_model("llama", **values)


def greedy(model, tokenizer) -> list[list[int]]:
    """The likeliest continuation of each prompt that copies are compared on."""
    found = []
    for ids in merging.prompts(tokenizer):
        asked = torch.tensor([ids])
        settings = {"do_sample": False, "max_new_tokens": REPLY_TOKENS, "repetition_penalty": 1.0}
        said = model.generate(input_ids=asked, attention_mask=torch.ones_like(asked), **settings)
        found.append(said[0, len(ids) :].tolist())
    return found


def modelfile(merged: Path, file: str) -> str:
    """What `ollama create` reads: the file, when a reply ends, and the template where it is ChatML."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(merged)
    try:
        generation = GenerationConfig.from_pretrained(merged)
    except OSError:
        generation = GenerationConfig(eos_token_id=AutoConfig.from_pretrained(merged).eos_token_id)
    holder = type("Model", (), {"generation_config": generation})
    stops = [tokenizer.convert_ids_to_tokens(id) for id in encoding.stop_ids(holder, tokenizer)]
    lines = [f"FROM ./{file}", *[f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]]
    if tokenizer.chat_template:
        text = encoding.apply_template(tokenizer, [{"role": "user", "content": "\ue0f0"}], True)
        if text.endswith("<|im_start|>user\n\ue0f0<|im_end|>\n<|im_start|>assistant\n"):
            turn = "<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
            lines.append(f'TEMPLATE """{{{{- range .Messages }}}}{turn}{{{{ end }}}}<|im_start|>assistant\n"""')
            if text.startswith("<|im_start|>system\n"):  # what the template says when nobody says anything else
                system = text.removeprefix("<|im_start|>system\n").split("<|im_end|>")[0]
                lines.append(f'SYSTEM """{system}"""')
    return "\n".join(lines) + "\n"


def _name(title: str, kind: str) -> str:
    return f"{paths.slug(title)}-{kind}.gguf"
