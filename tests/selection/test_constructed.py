import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import linegraph as lg
from linegraph.errors import DataError, NonFiniteError, UnsupportedOperationError
from linegraph.selection.constructed import batch_losses, finite, trainable_weights, unchanged


def test_batch_norm_uses_the_batch_and_dropout_does_nothing():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    model.eval()
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
    with unchanged(model) as call:
        found = call(x)
    torch.testing.assert_close(found, (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt())
    assert not model[0].training
    assert model[0].num_batches_tracked == 0


def test_a_frozen_backbone_stays_in_evaluation_mode():
    backbone = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    probe = lg.CapacitanceProbe(backbone, 3, 2, hidden=(4, 4, 4))
    with unchanged(probe):
        assert not backbone[1].training
    assert probe.training


def test_shares_of_batches_are_those_of_the_targets_that_the_loss_counts():
    x, y = torch.randn(6, 3), torch.tensor([0, 1, -100, -100, -100, 1])
    model = nn.Linear(3, 2)
    with unchanged(model) as call:
        parts = list(batch_losses(call, cross_entropy, [(x[:3], y[:3]), (x[3:5], y[3:5]), (x[5:], y[5:])]))
    assert [share for _, share in parts] == pytest.approx([2 / 3, 1 / 3])
    whole = cross_entropy(model(x), y)
    assert sum(loss.item() * share for loss, share in parts) == pytest.approx(float(whole))
    with pytest.raises(DataError, match="ignores all targets"), unchanged(model) as call:
        list(batch_losses(call, cross_entropy, (x, torch.full((6,), -100))))


def test_weights_are_trainable_and_have_two_dimensions():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    model[0].requires_grad_(False)
    assert [tuple(p.shape) for p in trainable_weights(model)] == [(3, 2)]


def test_a_model_that_writes_into_its_weights_is_refused():
    class Clipping(nn.Linear):
        def forward(self, x):
            self.weight.data.clamp_(-1, 1)
            return super().forward(x)

    with pytest.raises(UnsupportedOperationError, match="writes into the parameter 'weight'"):
        lg.selection.snip(Clipping(3, 2), cross_entropy, (torch.randn(4, 3), torch.arange(4) % 2))


def test_scores_are_finite():
    assert finite("it", torch.tensor(2.0)) == 2
    for value in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteError, match=f"it is {value}"):
            finite("it", value)
