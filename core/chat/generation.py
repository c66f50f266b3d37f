"""Replies token by token: the columns of one set of weights advance together, a token a forward pass."""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from transformers import DynamicCache, LogitsProcessorList
from transformers.generation import logits_process

from core import errors
from core.chat import engine, profiles
from core.chat.engine import BASE_ADAPTER, LoadedModel
from core.chat.types import Question, Reply, Sampling
from core.training import batching, encoding, model_loading
from core.training.config import TrainConfig

CHUNK = {"cpu": 512, "mps": 1024}  # tokens of a prompt read at once: Stop is heard between two chunks
CHUNK_OF_CARDS = 4096
NOT_A_NUMBER = -1  # in place of a token: the scores it would be drawn from are not numbers
MARK = re.compile("\ue0f0(\\d+)\ue0f1")
LOSS_BATCH, LOSS_TOKENS = 4, 2048  # rows of a batch whose held-out loss is measured, and their tokens at most


class Row:
    """One reply: its tokens, its sampler, its text."""

    def __init__(self, loaded: LoadedModel, question: Question, sampling: Sampling):
        weights, self.sampling, self.loaded, self.question = loaded.weights, sampling, loaded, question
        messages = question.messages
        if loaded.chat_model.profile:
            messages = profiles.messages(loaded.chat_model.profile, messages)
        self.prompt = prompt_ids(messages, weights.tokenizer)
        limit = model_loading.context_length(weights.inner.config) or 0
        if limit and len(self.prompt) >= limit:
            raise errors.named("PromptTooLong", tokens=len(self.prompt), limit=limit)
        self.room = min(sampling.max_new_tokens, (limit or sys.maxsize) - len(self.prompt))
        self.reply = Reply(prompt_tokens=len(self.prompt), context=limit)
        device = weights.inner.device
        self.ids = torch.tensor([self.prompt], device=device)
        self.random = torch.Generator(device).manual_seed(sampling.seed)
        self.warp = LogitsProcessorList(_warpers(sampling))
        self.new_ids, self.began, self.drawn_from = [], 0.0, None
        self.decoded_from, self.decoded_to = 0, 0  # the span of new_ids whose text ends the reply so far
        # A template that opens the thinking itself leaves only its end to the model.
        self.reply.text = self.opening = opening(self.prompt, weights.tokenizer)

    def draw(self, logits):
        """The next token (1, 1), on the device, from the scores (1, V) of the last position.

        What torch.multinomial draws, without the two questions that it puts to the device to be sure of its input:
        each would wait for all that was computed so far.
        """
        scores = self.warp(self.ids, logits.float())
        if self.question.logprobs is not None:
            self.drawn_from = logits[0].float().log_softmax(-1)  # (V,): of the model itself, whatever the sampling
        if self.sampling.temperature > 0:
            shares = scores.softmax(-1)
            token = (shares / torch.empty_like(shares).exponential_(generator=self.random)).argmax(-1, keepdim=True)
        else:
            token = scores.argmax(-1, keepdim=True)
        self.ids = torch.cat([self.ids, token], dim=1)
        return torch.where(logits.amax(-1, keepdim=True).isfinite(), token, NOT_A_NUMBER)

    def add(self, token: int) -> bool:
        """Take one token; whether there may be another one."""
        if token == NOT_A_NUMBER:
            precision = str(self.loaded.weights.inner.dtype).removeprefix("torch.")
            raise errors.named("NotNumbers", model=self.loaded.chat_model.title, precision=precision)
        now = time.monotonic()
        self.began = self.began or now  # the clock starts at the first token: the prompt is read by then
        if token in self.loaded.weights.stop_ids:
            return self._end("stop")
        self.new_ids.append(token)
        self._decode_new()
        if self.drawn_from is not None:
            self.reply.logprobs.append(self._noted(token))
        self.reply.tokens = len(self.new_ids)
        self.reply.tokens_per_second = round((len(self.new_ids) - 1) / max(1e-9, now - self.began), 1)
        if self._at_stop() >= 0:
            return self._end("stop")
        if len(self.new_ids) >= self.room:
            return self._end("length" if self.room == self.sampling.max_new_tokens else "context")
        return True

    def _decode_new(self) -> None:
        """Add the text of the newest tokens alone; half a character waits for its rest."""
        decode = self.loaded.weights.tokenizer.decode
        before = decode(self.new_ids[self.decoded_from : self.decoded_to])
        now = decode(self.new_ids[self.decoded_from :])
        if len(now) > len(before) and not now.endswith("\ufffd"):
            self.reply.text += now[len(before) :]
            self.decoded_from, self.decoded_to = self.decoded_to, len(self.new_ids)

    def _noted(self, token: int) -> dict:
        """A token with its log-probability, and the likeliest ones in its place."""
        tokenizer, likeliest = self.loaded.weights.tokenizer, self.drawn_from.topk(self.question.logprobs)

        def named(id: int, logprob: float) -> dict:
            return {"token": tokenizer.decode([id]), "logprob": logprob}

        top = [named(*pair) for pair in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)]
        return named(token, float(self.drawn_from[token])) | {"top": top}

    def _at_stop(self) -> int:
        """Where the first of the words that end the reply begins in its text, or -1."""
        places = [self.reply.text.find(word, len(self.opening)) for word in self.question.stop]
        return min((place for place in places if place >= 0), default=-1)

    def _end(self, reason: str) -> bool:
        self.reply.finish_reason = reason
        self.reply.text = self.opening + self.loaded.weights.tokenizer.decode(self.new_ids).rstrip("\ufffd")
        if (place := self._at_stop()) >= 0:
            self.reply.text = self.reply.text[:place]
        return False


def replies(questions: dict[str, Question], sampling: Sampling, *, on_cpu: bool = False) -> Iterator[dict[str, Reply]]:
    """Generate a reply in each column and yield all columns after each token.

    All columns draw with the same settings from generators of the same seed, so an adapter that changes nothing replies
    word for word like its base. Closing the iterator stops at once and frees the card.
    """
    with engine.LOCK:
        try:
            yield from _replies(questions, sampling, on_cpu)
        except Exception as error:
            engine.raise_if_out_of_memory(error, next(iter(questions.values())).model_id)
            raise


def _replies(questions: dict[str, Question], sampling: Sampling, on_cpu: bool) -> Iterator[dict]:
    loaded = engine.load_models({name: question.model_id for name, question in questions.items()}, on_cpu)
    try:
        batches: dict = {}  # columns of one forward pass: of the same weights, with adapters that mix
        for name, one in loaded.items():
            batches.setdefault((id(one.weights), None if one.mixes else name), []).append(name)
        groups = [
            Group({name: (loaded[name], questions[name]) for name in names}, sampling) for names in batches.values()
        ]
        unfinished = groups
        while unfinished and not engine.is_closing():
            unfinished = [group for group in unfinished if group.step()]
            yield {name: replace(group.replies[name]) for name in questions for group in groups if name in group.rows}
    finally:
        for one in loaded.values():
            engine.set_adapter(one.weights, None)


class Group:
    """Columns of one forward pass over one cache; shorter prompts are padded on the left."""

    def __init__(self, columns: dict[str, tuple[LoadedModel, Question]], sampling: Sampling):
        self.began = time.monotonic()
        self.rows = {name: Row(loaded, question, sampling) for name, (loaded, question) in columns.items()}
        self.replies = {name: row.reply for name, row in self.rows.items()}
        self.unfinished = list(self.rows.values())
        self.weights = self.unfinished[0].loaded.weights
        model = self.weights.inner
        self.cache = DynamicCache(config=model.config.get_text_config())
        longest = max(len(row.prompt) for row in self.unfinished)
        pads = [longest - len(row.prompt) for row in self.unfinished]
        ids = [[row.prompt[0]] * pad + row.prompt for row, pad in zip(self.unfinished, pads, strict=True)]
        self.unread = torch.tensor(ids, device=model.device)  # (B, T)
        self.mask = None
        if any(pads):
            mask = [[0] * pad + [1] * (longest - pad) for pad in pads]
            self.mask = torch.tensor(mask, device=model.device)  # (B, T), of all that was and will be read
        self.position = 0
        self.chunk = CHUNK.get(model.device.type, CHUNK_OF_CARDS)

    def step(self) -> bool:
        """Read a chunk of the prompts, or generate one token more in each row; whether there is more to do."""
        # Around one step, not around the whole reply: a page's steps run on whatever thread is free.
        with torch.inference_mode(), SwitchedLayers([row.loaded for row in self.unfinished]):
            chunk, self.unread = self.unread[:, : self.chunk], self.unread[:, self.chunk :]
            output = self.weights.inner(
                input_ids=chunk, cache=self.cache, use_cache=True, logits_to_keep=1, **self._positions(chunk)
            )
            return self.unread.shape[1] > 0 or self._add_tokens(output.logits[:, -1])

    def _positions(self, chunk) -> dict:
        """The mask and the positions of a chunk, needed only where rows are padded."""
        start, end = self.position, self.position + chunk.shape[1]
        self.position = end
        if self.mask is None:
            return {}
        positions = (self.mask[:, :end].cumsum(-1) - 1).clamp_min(0)[:, start:end]
        return {"attention_mask": self.mask[:, :end], "position_ids": positions}

    def _add_tokens(self, logits) -> bool:
        """Draw a token in each row from logits (B, V) and drop the rows that end; whether any is left."""
        drawn = torch.cat([row.draw(logits[index : index + 1]) for index, row in enumerate(self.unfinished)])  # (B, 1)
        going_on = []
        tokens = drawn[:, 0].tolist()  # the one wait for the device in a step
        for index, (row, token) in enumerate(zip(self.unfinished, tokens, strict=True)):
            if not row.reply.seconds_to_first:
                row.reply.seconds_to_first = round(time.monotonic() - self.began, 3)
            if row.add(token):
                going_on.append(index)
        if not going_on:
            return False
        self.unread = drawn
        if len(going_on) < len(self.unfinished):
            rows = torch.tensor(going_on, device=logits.device)
            self.cache.batch_select_indices(rows)
            self.unfinished = [self.unfinished[index] for index in going_on]
            self.mask = None if self.mask is None else self.mask[rows]
            self.unread = drawn[rows]
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(going_on), 1)], dim=1)
        return True


class SwitchedLayers:
    """The layers as these rows need them, for one forward pass: one adapter for all, or an adapter a row."""

    def __init__(self, rows: list[LoadedModel]):
        self.weights, self.adapters, self.hooks = rows[0].weights, [loaded.adapter for loaded in rows], []

    def __enter__(self):
        engine.set_adapter(self.weights, next(filter(None, self.adapters), None))
        if len(set(self.adapters)) == 1:
            return
        names = [adapter or BASE_ADAPTER for adapter in self.adapters]

        def hook(module, args, kwargs):  # as PEFT's own mixed batches hand a layer the name of each row's adapter
            return args, {**kwargs, "adapter_names": names}

        for module in self.weights.adapter_layers:
            if not hasattr(module, "parameter_name"):  # around experts, where no adapter of a mixed batch is
                self.hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def prompt_ids(messages: list[dict], tokenizer) -> list[int]:
    """The tokens that ask for the next reply; special tokens that a person typed are words, not commands."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    typed = "".join(message["content"] for message in messages if message["role"] != "assistant")
    if not tokenizer.chat_template or not any(token in typed for token in special):
        return encoding.prompt_ids(messages, tokenizer)
    special.sort(key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, special)))

    def marked(message: dict) -> dict:
        if message["role"] == "assistant":
            return message
        content = pattern.sub(lambda match: f"\ue0f0{special.index(match[0])}\ue0f1", message["content"])
        return {**message, "content": content}

    text = encoding.apply_template(tokenizer, [marked(message) for message in messages], True)
    ids = []
    for index, part in enumerate(MARK.split(text)):
        if index % 2:
            words = tokenizer(special[int(part)], add_special_tokens=False, split_special_tokens=True)
            ids += words["input_ids"]
        elif part:
            ids += tokenizer(part, add_special_tokens=False)["input_ids"]
    return ids


def opening(prompt: list[int], tokenizer) -> str:
    """What a template has begun in the model's name: an open `<think>`, or nothing."""
    return "<think>\n" if tokenizer.decode(prompt[-8:]).rstrip().endswith("<think>") else ""


def _warpers(sampling: Sampling) -> list:
    warpers = []
    if sampling.repetition_penalty != 1:
        warpers.append(logits_process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        warpers.append(logits_process.TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            warpers.append(logits_process.TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            warpers.append(logits_process.TopPLogitsWarper(sampling.top_p))
    return warpers


def held_out_loss(model_id: str, rows: list[dict], is_cancelled: Callable[[], bool] = lambda: False) -> dict:
    """{"loss", "rows"} of one chat model: mean cross-entropy in nats a learned token over chats or texts.

    Raises:
        ChatClosed: when a run that starts wants the memory, or when the request was cancelled.
    """
    with engine.LOCK:
        try:
            if is_cancelled():  # while it waited for its turn
                raise errors.named("ChatClosed")
            return _held_out_loss(model_id, rows, is_cancelled)
        except Exception as error:
            engine.raise_if_out_of_memory(error, model_id)
            raise


def _held_out_loss(model_id: str, rows: list[dict], is_cancelled: Callable[[], bool]) -> dict:
    loaded = engine.load_models({"measured": model_id})["measured"]
    weights, profile = loaded.weights, loaded.chat_model.profile
    limit = model_loading.context_length(weights.inner.config) or LOSS_TOKENS
    config = TrainConfig(base_model="", corpus="", method="lora", max_length=min(limit, LOSS_TOKENS))
    encoded = []
    for row in ({"id": ""} | row for row in rows):
        if profile and "messages" in row:
            encoded += profiles.encode_row(profile, row, weights.tokenizer, config, limit)
        else:
            encoded += encoding.encode_pieces(row, weights.tokenizer, config, Counter())
    if not encoded:
        return {"loss": None, "rows": 0}
    engine.set_adapter(weights, loaded.adapter)
    try:
        with torch.inference_mode():
            loss = batching.held_out_loss(
                weights.inner, encoded, LOSS_BATCH, lambda: engine.CLOSING.is_set() or is_cancelled()
            )
    finally:
        engine.set_adapter(weights, None)
    if loss is None:
        raise errors.named("ChatClosed")
    return {"loss": loss, "rows": len(encoded)}
