"""The GGUF files in llama.cpp itself, the engine of Ollama and LM Studio: same tokens, same template, same replies.

llama-cpp-python is published as source only and would be compiled for many minutes; xllamacpp is a wheel of the same
engine. Both files are read by transformers too, in tests/test_export.py.
"""

import json
import urllib.request

import pytest

from core.export import fidelity, gguf_export, gguf_file, merging
from tests.test_export import family, quiet  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow


class Engine:
    """llama.cpp with a file, on a port that it chose; nothing is rounded but what the file rounds."""

    def __init__(self, path):
        xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp has no wheel for this machine")
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)

    def ask(self, what: str, **values) -> dict:
        asked = urllib.request.Request(f"{self.server.listening_address}/{what}", json.dumps(values).encode())
        asked.add_header("Content-Type", "application/json")
        return json.load(urllib.request.urlopen(asked, timeout=60))

    def greedy(self, prompt) -> list[int]:
        settings = {"top_k": 1, "samplers": ["top_k"], "return_tokens": True, "n_predict": fidelity.REPLY_TOKENS}
        return self.ask("completion", prompt=prompt, **settings)["tokens"]


def test_llama_cpp_replies_as_the_model_does(family, tiny_tokenizer, tmp_path):  # noqa: F811 (the fixture)
    prompts = merging.prompts(tiny_tokenizer)
    gguf_file.write(family, tiny_tokenizer, tmp_path / "f16.gguf", "f16", quiet)
    engine = Engine(tmp_path / "f16.gguf")
    as_read = gguf_export.read(tmp_path / "f16.gguf", family)
    assert [engine.greedy(prompt) for prompt in prompts] == fidelity.greedy(as_read, tiny_tokenizer, prompts)
    said = [{"role": "user", "content": text} for text in merging.PROMPTS]
    written = [engine.ask("apply-template", messages=[message])["prompt"] for message in said]
    assert [engine.ask("tokenize", content=text, parse_special=True)["tokens"] for text in written] == prompts


def test_llama_cpp_opens_a_file_in_q8_0(family, tiny_tokenizer, tmp_path):  # noqa: F811 (the fixture)
    """It rounds what it multiplies with, too: its replies are not compared word for word."""
    gguf_file.write(family, tiny_tokenizer, tmp_path / "q8_0.gguf", "q8_0", quiet)
    said = Engine(tmp_path / "q8_0.gguf").greedy(merging.prompts(tiny_tokenizer)[0])
    assert 0 < len(said) <= fidelity.REPLY_TOKENS
