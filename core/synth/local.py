"""A local model that writes rows in batches, in the job's own process.

On a graphics card it takes turns: a run that starts gets the memory, and the model is loaded again when it has ended.
"""

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from core import errors
from core.chat import chat, engine
from core.corpus import turns
from core.corpus.token_counter import directory
from core.runs import gpu_access
from core.synth.replies import Reply
from core.training import devices, encoding, environment, model_loading, tokenizer_loading
from core.training.config import TrainConfig
from core.training.errors import TemplateRefused
from core.training.generate import evaluating, generate

MARGIN = 1.3  # of the weights' bytes: with the cache of a batch
LAYER = 0.5  # of its depth: where hidden states tell most of a text's subject (tests/benchmarks.md)
MOST_READ = 1024  # tokens of a text that is compared
LOOK_SECONDS = 1.0  # between two looks, while it writes, whether a run wants the card


class WriterWaits(gpu_access.CardBusy):
    template = 'The run "{name}" is training and has the card. Wait for its end, or let a server write.'


class Local:
    """A causal language model; it is loaded for its first batch, and batches are padded on the left."""

    def __init__(self, model: str, seed: int = 0, precision: str = "auto", *, in_4bit: bool = False):
        """`in_4bit`: also where memory does not ask for it, as QLoRA has its base."""
        self.path, self.seed, self.written, self.precision = Path(directory(model)), seed, 0, precision
        self.in_4bit, self.method = in_4bit, ""  # how it was loaded: lora or qlora
        self.model = self.tokenizer = None
        self.most = None  # rows in a batch, where memory has set a limit
        self.held = ExitStack()

    def batch(
        self, chats: list[list[dict]], *, temperature: float, max_tokens: int, top_p: float | None = None
    ) -> list[Reply]:
        """Replies to several chats at once; in smaller batches where memory is too small for that.

        Raises:
            WriterWaits: when a run has the card or wants it; the memory is given back by then. Ask again after the run.
            NoRoom, WriterOutOfMemory: when the model, or one row of it, is too large for this machine.
        """
        replies: list[Reply] = []
        while len(replies) < len(chats):
            some = chats[len(replies) :][: self.most]
            written = self._tried(some, temperature, max_tokens, top_p)
            if written is not None:
                replies += written
            elif len(some) == 1:
                raise errors.named("WriterOutOfMemory", model=self.path.name)
            else:
                self.most = len(some) // 2
        return replies

    def ask(
        self, messages: list[dict], *, temperature: float, max_tokens: int, top_p: float | None = None, **_
    ) -> Reply:
        return self.batch([messages], temperature=temperature, max_tokens=max_tokens, top_p=top_p)[0]

    def hidden_means(self, texts: list[str]) -> np.ndarray:
        """The mean hidden states of one layer over the tokens of each text, (texts, hidden size); raises what batch() does.

        Each token's state has length 1: those that take the attention that no other wants (arXiv:2309.17453), such as
        the first, are a hundred times as long and the same in every text.
        """
        try:
            self.open()
        except WriterWaits as error:
            engine.clear_frames(error)
            self.close()
            raise
        means = []
        with evaluating(self.model), torch.inference_mode():
            for text in texts:
                ids = self.tokenizer(text, add_special_tokens=False)["input_ids"][:MOST_READ]
                output = self.model(
                    input_ids=torch.tensor([ids]).to(self.model.device), output_hidden_states=True, use_cache=False
                )
                layers = output.hidden_states
                states = layers[round(LAYER * (len(layers) - 1))][0].float()  # (T, H)
                means.append(torch.nn.functional.normalize(states, dim=-1).mean(0).cpu().numpy())
        return np.stack(means)

    def close(self) -> None:
        """Give the memory back; the next batch loads the model again."""
        if self.model is not None:
            self.model = self.tokenizer = None
            gc.collect()
            devices.empty_cache()
        self.held.close()

    def _tried(self, chats: list[list[dict]], *sampling) -> list[Reply] | None:
        """Replies, or None where memory ran out."""
        try:
            self.open()
            return self._generated(chats, *sampling)
        except WriterWaits as error:
            engine.clear_frames(error)
            self.close()
            raise
        except Exception as error:
            if not environment.is_out_of_memory(error):
                raise
            engine.clear_frames(error)
            return None

    def open(self) -> None:
        """Load the model if it is not there; raises what batch() does."""
        self._need_card()
        if self.model is not None:
            return
        try:
            self._load()
        except Exception as error:
            engine.clear_frames(error)
            self.close()
            if environment.is_out_of_memory(error):
                raise errors.named("WriterOutOfMemory", model=self.path.name) from error
            raise

    def _load(self) -> None:
        """Load it in what this machine computes fast, or in 4-bit where memory is too small for that."""
        if devices.device_type() != "cpu":
            self.held.enter_context(gpu_access.guest())
            self._need_card()  # a run may have claimed it before it saw this guest
        self.method = self._method()
        config = self._config(self.method)
        self.tokenizer = tokenizer_loading.load_tokenizer(config)
        self.model = engine.for_replies(model_loading.load_base(config)).eval()
        torch.manual_seed(self.seed + self.written)

    def _method(self) -> str:
        """lora: as it is; qlora: in 4-bit. The chat gives its memory back first, when its reply has ended."""
        kind = devices.device_type()
        need = {method: engine.weight_bytes(self._config(method), kind) for method in ("lora", "qlora")}
        first = need["qlora" if self.in_4bit else "lora"]
        if MARGIN * first > engine.free_bytes(kind):
            chat.close(at_once=False)
        engine.need_room(self.path.name, need["qlora"], kind)
        return "lora" if not self.in_4bit and MARGIN * need["lora"] <= engine.free_bytes(kind) else "qlora"

    def _config(self, method: str) -> TrainConfig:
        return TrainConfig(base_model=str(self.path), corpus="", method=method, precision=self.precision)

    def _need_card(self) -> None:
        if devices.device_type() != "cpu":
            gpu_access.need(WriterWaits, sees_card=True)

    def _generated(
        self, chats: list[list[dict]], temperature: float, max_tokens: int, top_p: float | None
    ) -> list[Reply]:
        prompts = [self._prompt_ids(chat) for chat in chats]
        settings = {"temperature": temperature, "top_p": top_p, "look": self._look()}
        replies = generate(self.model, self.tokenizer, prompts, max_tokens, **settings)
        self.written += len(chats)
        texts = self.tokenizer.batch_decode([ids for ids, _ in replies], skip_special_tokens=True)
        return [
            Reply(text, "stop" if ended else "length", len(prompt), len(ids) + ended)
            for text, prompt, (ids, ended) in zip(texts, prompts, replies, strict=True)
        ]

    def _look(self) -> Callable[[], None]:
        """A function that raises WriterWaits when a run wants the card; it asks once in LOOK_SECONDS."""
        looked = time.monotonic()

        def look() -> None:
            nonlocal looked
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                self._need_card()

        return look

    def _prompt_ids(self, messages: list[dict]) -> list[int]:
        """The tokens of a prompt; a template that takes no system turn gets it in the question."""
        try:
            return encoding.prompt_ids(messages, self.tokenizer)
        except TemplateRefused:
            return encoding.prompt_ids(turns.folded(messages), self.tokenizer)
