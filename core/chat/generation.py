"""Replies that grow: the columns of one set of weights advance together, a token a forward pass."""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from transformers import DynamicCache, LogitsProcessorList
from transformers.generation import logits_process as process

from core.chat import engine, profiles
from core.chat.engine import BASE_ADAPTER, Voice, speak_as
from core.chat.types import NotNumbers, PromptTooLong, Question, Reply, Sampling
from core.training import encoding

CHUNK = {"cpu": 512, "mps": 1024}  # tokens of a prompt read at once: Stop is heard between two chunks
CHUNK_OF_CARDS = 4096
NOT_A_NUMBER = -1  # in place of a token: the scores it would be drawn from are not numbers
MARK = re.compile("\ue0f0(\\d+)\ue0f1")


class Row:
    """One reply: its tokens, its sampler, its words."""

    def __init__(self, voice: Voice, messages: list[dict], sampling: Sampling):
        weights, self.sampling, self.voice = voice.weights, sampling, voice
        if voice.contestant.profile:
            messages = profiles.messages(voice.contestant.profile, messages)
        self.prompt = prompt_ids(messages, weights.tokenizer)
        limit = getattr(weights.inner.config.get_text_config(), "max_position_embeddings", None) or 0
        if limit and len(self.prompt) >= limit:
            raise PromptTooLong(tokens=len(self.prompt), limit=limit)
        self.room = min(sampling.max_new_tokens, (limit or sys.maxsize) - len(self.prompt))
        self.reply = Reply(prompt_tokens=len(self.prompt), context=limit)
        device = weights.inner.device
        self.ids = torch.tensor([self.prompt], device=device)
        self.random = torch.Generator(device).manual_seed(sampling.seed)
        self.warp = LogitsProcessorList(_warpers(sampling))
        self.said, self.settled, self.read, self.began = [], 0, 0, 0.0
        # A template that opens the thinking itself leaves only its end to the model.
        self.reply.text = self.opening = opening(self.prompt, weights.tokenizer)

    def draw(self, logits):
        """The next token (1, 1), on the device, from the scores (1, V) of the last position.

        What torch.multinomial draws, without the two questions that it puts to the device to be sure of its input:
        each would wait for all that was computed so far.
        """
        scores = self.warp(self.ids, logits.float())
        if self.sampling.temperature > 0:
            shares = scores.softmax(-1)
            token = (shares / torch.empty_like(shares).exponential_(generator=self.random)).argmax(-1, keepdim=True)
        else:
            token = scores.argmax(-1, keepdim=True)
        self.ids = torch.cat([self.ids, token], dim=1)
        return torch.where(logits.amax(-1, keepdim=True).isfinite(), token, NOT_A_NUMBER)

    def hear(self, token: int) -> bool:
        """Take one token; whether there may be another one."""
        if token == NOT_A_NUMBER:
            precision = str(self.voice.weights.inner.dtype).removeprefix("torch.")
            raise NotNumbers(model=self.voice.contestant.title, precision=precision)
        now = time.monotonic()
        self.began = self.began or now  # the clock starts at the first token: the prompt is read by then
        if token in self.voice.weights.stop_ids:
            return self._end("stop")
        self.said.append(token)
        self._spell()
        self.reply.tokens = len(self.said)
        self.reply.tokens_per_second = round((len(self.said) - 1) / max(1e-9, now - self.began), 1)
        if len(self.said) >= self.room:
            return self._end("length" if self.room == self.sampling.max_new_tokens else "context")
        return True

    def _spell(self) -> None:
        """Add the words of the newest tokens; half a letter waits for its rest. Earlier tokens are not decoded again."""
        decode = self.voice.weights.tokenizer.decode
        before, now = decode(self.said[self.settled : self.read]), decode(self.said[self.settled :])
        if len(now) > len(before) and not now.endswith("\ufffd"):
            self.reply.text += now[len(before) :]
            self.settled, self.read = self.read, len(self.said)

    def _end(self, reason: str) -> bool:
        self.reply.finish_reason = reason
        whole = self.voice.weights.tokenizer.decode(self.said)
        self.reply.text = self.opening + whole.removesuffix("\ufffd")
        return False


def replies(
    questions: dict[str, Question], sampling: Sampling, *, on_cpu: bool = False, loaded_as: str | None = None
) -> Iterator[dict[str, Reply]]:
    """Grow a reply in each column and yield the columns as they grow.

    All columns draw with the same settings from generators of the same seed, so an adapter that changes nothing replies
    word for word like its base. Closing the iterator stops at once and frees the card. `loaded_as` names the run that
    decides how the base is held, 4-bit or not, when it isn't asked itself.
    """
    with engine.LOCK:
        try:
            yield from _grown(questions, sampling, on_cpu, loaded_as)
        except Exception as error:
            engine.ran_out(error, next(question.contestant for question in questions.values()))
            raise


def _grown(questions: dict[str, Question], sampling: Sampling, on_cpu: bool, loaded_as: str | None) -> Iterator[dict]:
    voices = engine.voiced({name: question.contestant for name, question in questions.items()}, on_cpu, loaded_as)
    try:
        groups = []
        for names in _batches(voices):
            asked = {name: (voices[name], questions[name].messages) for name in names}
            groups.append(Group(asked, sampling))
        growing = groups
        while growing and not engine.is_closing():
            growing = [group for group in growing if group.grow()]
            yield {name: replace(group.replies[name]) for name in questions for group in groups if name in group}
    finally:
        for weights in {id(voice.weights): voice.weights for voice in voices.values()}.values():
            engine.silence(weights)


def _batches(voices: dict[str, Voice]) -> list[list[str]]:
    """Columns that grow in one forward pass: of the same weights, with adapters that mix."""
    batches: dict = {}
    for name, voice in voices.items():
        alone = () if voice.mixes else (name,)
        batches.setdefault((id(voice.weights), *alone), []).append(name)
    return list(batches.values())


class Group:
    """Columns that grow in one forward pass over one cache; shorter prompts are padded on the left."""

    def __init__(self, asked: dict[str, tuple[Voice, list[dict]]], sampling: Sampling):
        self.began = time.monotonic()
        self.rows = {name: Row(voice, messages, sampling) for name, (voice, messages) in asked.items()}
        self.replies = {name: row.reply for name, row in self.rows.items()}
        self.growing = list(self.rows.values())
        self.weights = self.growing[0].voice.weights
        model = self.weights.inner
        self.cache = DynamicCache(config=model.config.get_text_config())
        longest = max(len(row.prompt) for row in self.growing)
        pads = [longest - len(row.prompt) for row in self.growing]
        ids = [[row.prompt[0]] * pad + row.prompt for row, pad in zip(self.growing, pads, strict=True)]
        self.unread = torch.tensor(ids, device=model.device)  # (B, T)
        self.mask = None
        if any(pads):
            mask = [[0] * pad + [1] * (longest - pad) for pad in pads]
            self.mask = torch.tensor(mask, device=model.device)  # (B, T), of all that was and will be read
        self.position = 0
        self.chunk = CHUNK.get(model.device.type, CHUNK_OF_CARDS)

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    def grow(self) -> bool:
        """Read a chunk of the prompts, or say one token more in each row; whether there is more to do."""
        # Around one step, not around the whole reply: a page's steps run on whatever thread is free.
        with torch.inference_mode(), Switched(self.growing):
            chunk, self.unread = self.unread[:, : self.chunk], self.unread[:, self.chunk :]
            logits = self.weights.inner(input_ids=chunk, cache=self.cache, use_cache=True, **self._where(chunk)).logits
            if self.unread.shape[1]:
                return True
            return self._hear(logits[:, -1])

    def _where(self, chunk) -> dict:
        """The mask and the positions of a chunk, needed only where rows are padded."""
        start, end = self.position, self.position + chunk.shape[1]
        self.position = end
        if self.mask is None:
            return {"logits_to_keep": 1}
        positions = (self.mask[:, :end].cumsum(-1) - 1).clamp_min(0)[:, start:end]
        return {"attention_mask": self.mask[:, :end], "position_ids": positions, "logits_to_keep": 1}

    def _hear(self, logits) -> bool:
        drawn = torch.cat([row.draw(logits[index : index + 1]) for index, row in enumerate(self.growing)])  # (B, 1)
        kept = []
        tokens_drawn = drawn[:, 0].tolist()  # the one wait for the device in a step
        for index, (row, token) in enumerate(zip(self.growing, tokens_drawn, strict=True)):
            if not row.reply.seconds_to_first:
                row.reply.seconds_to_first = round(time.monotonic() - self.began, 3)
            if row.hear(token):
                kept.append(index)
        if not kept:
            return False
        self.unread = drawn
        if len(kept) < len(self.growing):
            rows = torch.tensor(kept, device=logits.device)
            self.cache.batch_select_indices(rows)
            self.growing = [self.growing[index] for index in kept]
            self.mask = None if self.mask is None else self.mask[rows]
            self.unread = drawn[rows]
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(kept), 1)], dim=1)
        return True


class Switched:
    """The layers as these rows need them, for one forward pass: one voice for all, or a voice a row."""

    def __init__(self, rows: list[Row]):
        self.voices, self.hooks = [row.voice for row in rows], []

    def __enter__(self):
        adapters = {voice.adapter for voice in self.voices}
        if len(adapters) == 1:
            speak_as(self.voices[0])
            return
        names = [voice.adapter or BASE_ADAPTER for voice in self.voices]
        speak_as(next(voice for voice in self.voices if voice.adapter))
        for module in self.voices[0].weights.switches:
            if hasattr(module, "parameter_name"):  # around experts, where no adapter of a mixed batch is
                continue
            self.hooks.append(module.register_forward_pre_hook(_named(names), with_kwargs=True))

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def _named(names: list[str]):
    """A hook that hands a layer the name of each row's adapter, as PEFT's own mixed batches do."""
    return lambda module, args, kwargs: (args, {**kwargs, "adapter_names": names})


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
        content = pattern.sub(lambda found: f"\ue0f0{special.index(found[0])}\ue0f1", message["content"])
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
    tail = tokenizer.decode(prompt[-8:])
    return "<think>\n" if tail.rstrip().endswith("<think>") else ""


def _warpers(sampling: Sampling) -> list:
    warpers = []
    if sampling.repetition_penalty != 1:
        warpers.append(process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        warpers.append(process.TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            warpers.append(process.TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            warpers.append(process.TopPLogitsWarper(sampling.top_p))
    return warpers
