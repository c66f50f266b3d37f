"""Rows become blocks and batches, and held-out rows a loss: small cases worked out by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from core.training import batching, packing
from core.training.encoding import IGNORED


def row(id: str, *ids: int) -> dict:
    return {"input_ids": list(ids), "labels": list(ids), "id": id}


def test_rows_go_into_the_fullest_block_that_takes_them_the_longest_first():
    assert packing.bins([3, 5, 2, 8, 4, 8], 10) == [[3, 2], [5], [1, 4], [0]]
    assert packing.bins([1, 10, 9], 10) == [[1], [2, 0]]
    assert packing.bins([5, 6], 10) == [[1], [0]]  # together they are one token too long


def test_the_first_token_of_a_packed_document_is_not_learned_from_a_stranger_s_last_one():
    assert packing.make_block([row("1", 5, 6, 7), row("2", 8, 9)]) == {
        "input_ids": [5, 6, 7, 8, 9],
        "labels": [IGNORED, 6, 7, IGNORED, 9],
        "position_ids": [0, 1, 2, 0, 1],
        "id": "1 2",
    }


def test_padding_of_a_block_is_a_document_of_its_own():
    blocks = [packing.make_block([row("1", 5, 6, 7), row("2", 8, 9)]), packing.make_block([row("3", 4, 3)])]
    batch = {key: value.tolist() for key, value in packing.collate(blocks).items()}
    assert batch == {
        "input_ids": [[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]],
        "labels": [[IGNORED, 6, 7, IGNORED, 9], [IGNORED, 3, IGNORED, IGNORED, IGNORED]],
        "position_ids": [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]],
    }


def test_rows_come_in_another_order_in_each_epoch_and_in_the_same_one_when_an_epoch_is_resumed():
    orders = []
    for epoch in (0, 1, 2, 1):
        sampler = batching.ByLength(list(range(1, 41)), 4, 7)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert [sorted(order) for order in orders] == [list(range(40))] * 4
    assert len({tuple(order) for order in orders[:3]}) == 3
    assert orders[3] == orders[1]


class Model(torch.nn.Module):
    """A model whose loss of a token is the token's id; it notes in which mode it was asked."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, input_ids, labels):
        self.modes.append(self.training)
        learned = labels[:, 1:][labels[:, 1:] != IGNORED]
        return SimpleNamespace(loss=learned.float().mean())


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_held_out_loss_counts_every_learned_token_alike_whatever_the_batches(batch_size):
    """Six tokens of loss 1, one of loss 8 and one of 6: not the mean over rows, nor that over batches."""
    rows = [row("1", 9, 1, 1, 1, 1, 1, 1), row("2", 9, 8), row("3", 9, 6)]
    assert batching.held_out_loss(Model(), rows, batch_size) == pytest.approx((6 * 1 + 8 + 6) / 8)


@pytest.mark.parametrize("training", [True, False])
def test_an_evaluation_leaves_the_model_in_the_mode_it_was_in(training):
    model = Model().train(training)
    assert batching.held_out_loss(model, [row("1", 1, 2)], 1) == 2
    assert (model.modes, model.training) == ([False], training)


def test_an_evaluation_that_is_stopped_has_no_loss():
    model = Model()
    assert batching.held_out_loss(model, [row("1", 1, 2), row("2", 3, 4)], 1, lambda: True) is None
    assert (len(model.modes), model.training) == (1, True)
    assert math.isfinite(batching.held_out_loss(model, [row("1", 1, 2)], 1, lambda: False))
