"""Training on preferences by DPO, KTO and ORPO: batches, the loss, and the reference that replies are compared with.

The reference is the model as it starts, whatever that is made of: a base, a base with the adapters of earlier runs, all
weights. It is asked once, before the first step, and kept as a number a reply: no second model, no second pass a step.
ORPO has none.

Not by TRL's trainers: they compute the same loss (tests/test_preferences.py) and lack the rest of ours
(tests/benchmarks.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import numpy
import torch
from filelock import FileLock
from torch.nn.functional import logsigmoid

from . import batching, cross_entropy, encoding, environment, model_loading, packing, token_cache
from .config import TrainConfig

MEASURES = ("margin", "accuracy", "chosen_logp", "rejected_logp")  # over pairs, or over replies of either side
TELL_SECONDS = 1.0  # between two words about how far the reference is
REFERENCES_KEPT = 8  # of an encoded corpus; the oldest goes
CHECKSUM_BYTES = 2**24  # of a tensor that are added up at a time
REFERENCES = {"dpo": 1, "kto": 2, "orpo": 0}  # numbers of the reference that a reply needs
BESIDE = ("counts", "liked", "paired", "reference", "others")  # what the model is not given of a batch
SUREST = -1e-6  # nats a token of a reply that is known by heart; at 0 the odds would be infinite


class Pairs:
    """Encoded pairs: pair[at] has two replies to a prompt, for KTO also two replies to another prompt, and what the
    reference thinks of each of them. Of a corpus whose replies were judged one by one it has one reply in their place.

    KTO estimates how far the model has moved from replies that do not belong to their prompt. Here they are those of
    the row before, so that the reference knows them beforehand; TRL takes the row before in the batch.
    """

    def __init__(self, rows: token_cache.Tokens, config: TrainConfig):
        self.rows, self.kto, self.max_length = rows, config.preference_loss == "kto", config.max_length
        self.sides = 2 if rows.liked is None else 1  # of a row
        starts = range(0, len(rows), self.sides)
        self.lengths = [max(rows.lengths[at : at + self.sides]) for at in starts]
        self.reference = numpy.zeros((len(starts), self.sides * REFERENCES[config.preference_loss]), numpy.float32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int) -> dict:
        numbers = range(self.sides * at, self.sides * (at + 1))
        sides = [self.rows[number] for number in numbers]
        if self.kto:
            before = [self.rows[(number - self.sides) % len(self.rows)] for number in numbers]
            sides += [self._mismatched(*both) for both in zip(sides, before, strict=True)]
        liked = [True, False] if self.sides == 2 else [bool(self.rows.liked[at])]
        return {"sides": sides, "liked": liked, "reference": self.reference[at], "id": sides[0]["id"]}

    def _mismatched(self, asked: dict, replied: dict) -> dict:
        """The prompt of one side with the reply of another; what is too long is cut off."""
        prompt, reply = (_first_learned(side["labels"]) for side in (asked, replied))
        ids = asked["input_ids"][:prompt] + replied["input_ids"][reply:]
        labels = asked["labels"][:prompt] + replied["labels"][reply:]
        return {"input_ids": ids[: self.max_length], "labels": labels[: self.max_length], "id": asked["id"]}


def _first_learned(labels: list[int]) -> int:
    return next(at for at, label in enumerate(labels) if label != encoding.IGNORED)


def collate(pairs: list[dict], layout: dict, *, packed: bool, tiled: bool) -> dict:
    """A batch of N sequences, first the chosen sides of all pairs and then the rejected ones, each as long as the longest,
    or `packed` end to end; with `liked` (N,) and whether they are `paired`, but for ORPO with `reference` (N,), for KTO
    also with a batch of the mismatched ones as `others`."""
    count = len(pairs[0]["liked"])
    batch = _batch(pairs, range(count), layout, packed, tiled)
    batch["paired"] = count == 2
    batch["liked"] = torch.tensor([pair["liked"][side] for side in range(count) for pair in pairs])
    if len(pairs[0]["sides"]) > count:
        batch["others"] = _batch(pairs, range(count, 2 * count), layout, packed, tiled)
    tokens = sum(len(side["input_ids"]) for pair in pairs for side in pair["sides"][:count])
    return batch | {"rows": [pair["id"] for pair in pairs], "tokens": tokens}


def _batch(pairs: list[dict], which: range, layout: dict, packed: bool, tiled: bool) -> dict:
    sides = [pair["sides"][side] for side in which for pair in pairs]
    batch = packing.collate([packing.make_block(sides)], **layout) if packed else packing.collate(sides)
    if tiled:
        batch["learned"] = cross_entropy.learned_positions(batch["labels"])
    batch["counts"] = [sum(label != encoding.IGNORED for label in side["labels"][1:]) for side in sides]
    if len(pairs[0]["reference"]):
        reference = [pair["reference"][side] for side in which for pair in pairs]
        batch["reference"] = torch.tensor(numpy.array(reference), dtype=torch.float32)
    return batch


def log_probabilities(model, batch: dict):
    """The log-probability (N,) of each reply of a batch, in nats: the sum over its tokens.

    Summed one by one, which is the same each time: index_add is not on a card.
    """
    inputs = {name: value for name, value in batch.items() if name not in BESIDE}
    losses = model(**inputs, token_losses=True).loss.float()
    return torch.stack([-some.sum() for some in losses.split(batch["counts"])])


def loss(model, batch: dict, config: TrainConfig) -> tuple:
    """The loss of a batch, and of its replies what means() makes MEASURES of, on the device.

    DPO with label_smoothing is its robust form: Chowdhury et al. 2024, arXiv:2403.00409, as TRL's loss_type "robust".
    """
    if config.preference_loss == "kto":
        return _kto(model, batch, config)
    logps = log_probabilities(model, batch)
    if config.preference_loss == "orpo":
        gained = logps / logps.new_tensor(batch["counts"])  # nats a token
        losses = _orpo(*gained.chunk(2), config.beta)
    else:
        gained = logps - batch["reference"]  # by how much each reply has become likelier
        chosen, rejected = gained.chunk(2)
        margin, wrong = config.beta * (chosen - rejected), config.label_smoothing
        losses = (wrong * logsigmoid(-margin) - (1 - wrong) * logsigmoid(margin)) / (1 - 2 * wrong)
    return losses.mean(), _of_replies(logps, gained, batch, config.beta)


def _kto(model, batch: dict, config: TrainConfig) -> tuple:
    with torch.no_grad():
        others = batch["others"]
        moved_away = (log_probabilities(model, others) - others["reference"]).mean().clamp_min(0)
    logps, liked = log_probabilities(model, batch), batch["liked"]
    gained = logps - batch["reference"]
    ahead = torch.where(liked, gained - moved_away, moved_away - gained)
    weights = torch.where(liked, config.desirable_weight, config.undesirable_weight)
    losses = weights * (1 - torch.sigmoid(config.beta * ahead))
    return losses.mean(), _of_replies(logps, gained, batch, config.beta)


def _orpo(chosen, rejected, beta: float):
    """The negative log-likelihood of each chosen reply, and how much likelier it is than the rejected one, by their odds.

    Hong et al. 2024, arXiv:2403.07691, equations 3 to 7. As in the paper, every pair counts the same however long its
    reply is, and prompts are not learned; TRL's first term is a mean over all tokens of a batch, prompts included.
    """
    chosen, rejected = chosen.clamp_max(SUREST), rejected.clamp_max(SUREST)
    log_odds = chosen - rejected - torch.log(-torch.expm1(chosen)) + torch.log(-torch.expm1(rejected))
    return -chosen - beta * logsigmoid(log_odds)


def _of_replies(logps, gained, batch: dict, beta: float):
    """What means() needs of each reply (N, 4): whether it is liked and one of a pair, what it gained, how likely it is;
    the two of a pair stand one after the other."""
    liked = batch["liked"].to(logps.dtype)
    found = torch.stack([liked, torch.full_like(liked, batch["paired"]), beta * gained, logps], 1).detach()
    return found.view(2, -1, 4).transpose(0, 1).reshape(-1, 4) if batch["paired"] else found


def means(found: list) -> dict[str, float | None]:
    """MEASURES of several batches by name; None where there is no reply to measure.

    Without pairs the accuracy is the share of all couples of a liked and a disliked reply of which the liked one gained
    more.
    """
    replies = torch.cat(found).cpu().double().numpy()
    liked, (paired, gained, logps) = replies[:, 0] > 0, replies[:, 1:].T
    (chosen, rejected), both = (gained[liked], gained[~liked]), liked.any() and not liked.all()
    if paired.all():
        ahead = chosen > rejected
    else:
        ahead = numpy.searchsorted(numpy.sort(rejected), chosen) / max(1, len(rejected))
    sides = [float(logps[side].mean()) if side.any() else None for side in (liked, ~liked)]
    compared = (float(chosen.mean() - rejected.mean()), float(ahead.mean())) if both else (None, None)
    return dict(zip(MEASURES, (*compared, *sides), strict=True))


def held_out(model, pairs: Pairs, config: TrainConfig, should_stop: Callable[[], bool]) -> tuple | None:
    """The mean loss of held-out pairs, and their MEASURES by name; None if it was stopped."""
    losses, replies, counts = [], [], []

    def work(chosen: list[int], batch: dict) -> bool:
        for found, value in zip((losses, replies), loss(model, batch, config), strict=True):
            found.append(value)
        counts.append(len(chosen))
        return should_stop()

    if _evaluated(model, pairs, config, work):
        return None
    return float(numpy.average(torch.stack(losses).cpu().numpy(), weights=counts)), means(replies)


def _evaluated(model, pairs: Pairs, config: TrainConfig, work: Callable[[list[int], dict], bool]) -> bool:
    """Call work(numbers of pairs, their batch on the device) for pairs of like length, the model in evaluation mode,
    until it returns true; whether it did."""
    was_training, tiled = model.training, getattr(model, "loss_is_tiled", False)
    by_length, stopped = sorted(range(len(pairs)), key=pairs.lengths.__getitem__), False
    model.eval()
    with torch.inference_mode(), model_loading.autocast(model):
        for start in range(0, len(by_length), config.batch_size):
            chosen = by_length[start : start + config.batch_size]
            batch = collate([pairs[at] for at in chosen], {}, packed=False, tiled=tiled)
            rows, _ = batch.pop("rows"), batch.pop("tokens")
            try:
                stopped = work(chosen, _moved(batch, model.device))
            except Exception as error:
                error.batch_shape, error.batch_rows = tuple(batch["input_ids"].shape), batching.named_rows([rows])
                raise
            if stopped:
                break
    model.train(was_training)
    return stopped


def _moved(batch: dict, device) -> dict:
    moved = {name: value.to(device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    return batch | moved | ({"others": _moved(batch["others"], device)} if "others" in batch else {})


# ---------------------------------------------------------------------------------------------------------------------
# The reference


def add_reference(
    model, parts: list[Pairs], config: TrainConfig, place: Path, report, should_stop: Callable[[], bool]
) -> bool:
    """Fill in what the model, as it is now, thinks of all replies, where the loss asks for it; False if it was stopped.

    It is kept in `place` by the fingerprint of the weights: a run that is resumed reads the very numbers it began with,
    and another run with other settings of the loss asks nothing.
    """
    if not REFERENCES[config.preference_loss]:
        return True
    path = Path(place) / f"reference-{config.preference_loss}-{_fingerprint(model, config)}.f32"
    with FileLock(path.with_suffix(".lock")):  # several processes of one run begin at the same time
        if not path.is_file():
            if not _ask(model, parts, config, report, should_stop):
                return False
            unfinished = path.with_suffix(".unfinished")
            numpy.concatenate([pairs.reference.ravel() for pairs in parts]).tofile(unfinished)
            unfinished.replace(path)
            newest_first = sorted(path.parent.glob("reference-*.f32"), key=lambda file: -file.stat().st_mtime)
            for old in newest_first[REFERENCES_KEPT:]:
                old.unlink()
                old.with_suffix(".lock").unlink(missing_ok=True)
    kept, start = numpy.fromfile(path, numpy.float32), 0
    for pairs in parts:
        end = start + pairs.reference.size
        pairs.reference[:] = kept[start:end].reshape(pairs.reference.shape)
        start = end
    return True


def _ask(model, parts: list[Pairs], config: TrainConfig, report, should_stop: Callable[[], bool]) -> bool:
    """Fill in the log-probabilities of all replies of all parts, and say how far that is; False if it was stopped."""
    total, done, told = sum(map(len, parts)), 0, monotonic()

    def work(pairs: Pairs, chosen: list[int], batch: dict) -> bool:
        nonlocal done, told
        for first, some in enumerate([batch, batch["others"]] if pairs.kto else [batch]):
            logps = log_probabilities(model, some).reshape(pairs.sides, -1).T.cpu().numpy()
            pairs.reference[chosen, pairs.sides * first : pairs.sides * (first + 1)] = logps
        done += len(chosen)
        if monotonic() - told > TELL_SECONDS:
            told = monotonic()
            report("preparing", stage="reference", done=done, total=total)
        return should_stop()

    return not any(_evaluated(model, pairs, config, partial(work, pairs)) for pairs in parts)


def _fingerprint(model, config: TrainConfig) -> str:
    """16 hex digits that change with any weight, and with what computes them: their device does the adding up."""
    digest = hashlib.sha256(f"{torch.__version__} {model.device.type} {environment.process_count()}".encode())
    digest.update(f"{getattr(model, 'computes_in', '')} {config.use_liger_kernel}".encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)} {_checksum(value)}".encode())
    return digest.hexdigest()[:16]


def _checksum(tensor) -> int:
    """A sum over the bytes of a tensor that knows their order, modulo 2^64."""
    data, total = tensor.detach().contiguous().flatten().view(torch.uint8), 0
    for start in range(0, len(data), CHECKSUM_BYTES):
        some = data[start : start + CHECKSUM_BYTES]
        some = torch.nn.functional.pad(some, (0, -len(some) % 4)).view(torch.int32).long()
        odd = torch.arange(2 * start + 1, 2 * (start + len(some)) + 1, 2, device=some.device)
        total += int((some * odd * odd).sum())
    return total % 2**64


def without_dropout(model) -> None:
    """Switch dropout off, as TRL does: the reference has none, and its noise would count as a change of the model."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # what attention itself drops, of its scores
            module.attention_dropout = 0.0
