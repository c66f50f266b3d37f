"""The model that a prompt is for: how likely replies are behind a candidate, and what it proposes itself.

Losses are measured as a run measures that of its held-out rows: the same tokens, encoding and cut.
"""

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

from core import errors
from core.chat import engine, profiles
from core.prompt_search.candidates import NONE, Candidate
from core.synth.local import Local
from core.training import batching, cross_entropy, encoding, environment, model_loading, packages
from core.training.config import TrainConfig
from core.training.errors import TemplateRefused, TrainingError

BATCH = 4  # rows of a forward pass; fewer where memory ran out
PROPOSAL_TOKENS, TEMPERATURE = 200, 0.9
SENTENCES = re.compile(r"(.*[.!?…])?", re.DOTALL)  # of a text, up to the end of its last whole one


class Judge:
    """A base on the card or the processor, loaded when it is needed; a run that starts gets the card.

    Every method raises core.runs.gpu_access.CardBusy while a run has it: ask again after the run.
    """

    def __init__(self, config: TrainConfig, corpus_name: str):
        self.config, self.corpus_name = config, corpus_name
        # As the run has it that is compared.
        in_4bit = config.method == "qlora" and find_spec("bitsandbytes") and not packages.fault("bitsandbytes")
        self.local = Local(config.base_model, config.seed, config.precision, in_4bit=bool(in_4bit))
        self.batch = BATCH
        self.longest, self.example = 0, None  # of the rows: tokens uncut; one that has something to learn

    def open(self) -> None:
        self.local.open()
        if not hasattr(self.local.model, "loss_is_tiled"):
            cross_entropy.without_logits(self.local.model)
        if not self.local.tokenizer.chat_template:
            raise TrainingError("NoChatTemplate", model=self.local.path.name, name=self.corpus_name)

    def close(self) -> None:
        self.local.close()

    def encoded(self, candidate: Candidate, row: dict) -> list[dict]:
        """The pieces of a row behind a candidate; without a prompt those that a run encodes."""
        if candidate == NONE:
            return encoding.encode_pieces(row, self.local.tokenizer, self.config, Counter())
        return profiles.encode_row(candidate, row, self.local.tokenizer, self.config, self._limit())

    def look(self, rows: list[dict]) -> None:
        """Take the measure of the rows that candidates will stand before.

        Raises:
            NothingToLearn: where none of them has a reply that counts.
        """
        self.open()
        for row in rows:
            with suppress(TemplateRefused):
                self.longest = max(self.longest, len(encoding.encode(row, self.local.tokenizer)["input_ids"]))
        self.example = next((row for row in rows if self.encoded(NONE, row)), None)
        if self.example is None:
            raise TrainingError("NothingToLearn", name=self.corpus_name, max_length=self.config.max_length)

    def unfit(self, candidate: Candidate) -> str:
        """Why a candidate cannot stand before the rows: refused by the template, too_long for the context; or nothing."""
        if candidate == NONE:
            return ""
        self.open()
        try:
            more = profiles.tokens_before(candidate, self.example, self.local.tokenizer)
        except TemplateRefused:
            return "refused"
        if more + min(self.longest, self.config.max_length) > self._limit():
            return "too_long"
        alone, behind = (self.learned(self.encoded(one, self.example)) for one in (NONE, candidate))
        return "" if alone == behind else "refused"

    def losses(
        self, candidate: Candidate, rows: list[dict], should_stop: Callable[[], bool]
    ) -> tuple[float, int, int] | None:
        """What the replies of rows cost behind a candidate; None if it was stopped.

        (sum of the cross-entropies in nats, learned tokens, rows that have any).
        """
        self.open()
        pieces = [piece for row in rows for piece in self.encoded(candidate, row)]
        if not pieces:
            return 0.0, 0, 0
        loss, tokens = self._mean(pieces, should_stop), self.learned(pieces)
        return None if loss is None else (loss * tokens, tokens, len({piece["id"] for piece in pieces}))

    def proposals(self, questions: list[str]) -> list[str]:
        """The replies of the model to questions; what the limit has cut ends with its last whole sentence."""
        chats = [[{"role": "user", "content": question}] for question in questions]
        self.open()
        replies = self.local.batch(chats, temperature=TEMPERATURE, max_tokens=PROPOSAL_TOKENS)
        return [reply.text if reply.finish == "stop" else SENTENCES.match(reply.text)[0] for reply in replies]

    @staticmethod
    def learned(pieces: list[dict]) -> int:
        return sum(label != encoding.IGNORED for piece in pieces for label in piece["labels"][1:])

    def _limit(self) -> int:
        return model_loading.context_length(self.local.model.config) or 2**31

    def _mean(self, pieces: list[dict], should_stop: Callable[[], bool]) -> float | None:
        """The mean loss, in smaller batches where memory ran out."""
        try:
            return batching.held_out_loss(self.local.model, pieces, self.batch, should_stop)
        except Exception as error:
            if not environment.is_out_of_memory(error):
                raise
            engine.clear_frames(error)
            if self.batch == 1:
                raise errors.named("WriterOutOfMemory", model=self.local.path.name) from error
        self.batch //= 2
        return self._mean(pieces, should_stop)
