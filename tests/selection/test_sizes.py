import pytest
import torch
from torch import nn

from linegraph.selection import flops, num_parameters


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.a.requires_grad_(False)

    def forward(self, x):
        return self.b(self.a(x))


def test_tied_parameters_count_once_and_frozen_ones_count():
    assert num_parameters(Tied()) == 9 + 3 + 3


def test_operations_are_those_of_the_formulas_per_sample():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    expected = 2 * (4 * 6 * 6) * (2 * 3 * 3) + 2 * (4 * 6 * 6) * 10
    for n in (1, 5):
        assert flops(model, None, (torch.randn(n, 2, 8, 8), torch.arange(n))) == expected
    assert model.training
    assert model[1].num_batches_tracked == 0


def test_operations_of_attention_count():
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    projections = 2 * 5 * 8 * (4 * 8 + 2 * 16)
    products = 2 * 2 * 5 * 5 * 8
    assert flops(attention, None, (torch.randn(3, 5, 8), torch.arange(3))) == projections + products


def test_inputs_of_a_mapping():
    class OfMapping(nn.Linear):
        def forward(self, x, scale):
            return super().forward(x) * scale

    inputs = {"x": torch.randn(4, 3), "scale": torch.tensor(2.0)}
    assert flops(OfMapping(3, 2), None, (inputs, torch.arange(4))) == 12


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_operations_of_recurrences_count(kind, gates):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = kind(3, 5, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.layer(x)[0][:, -1]

    expected = 7 * 2 * gates * 5 * ((3 + 5) + (5 + 5))
    for model in (Last(), Last().eval()):
        assert flops(model, None, (torch.randn(4, 7, 3), torch.arange(4))) == expected
