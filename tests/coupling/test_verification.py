import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import IdentityError, UnsupportedOperationError
from tests.cases import CASES


@pytest.mark.parametrize(("kind", "name"), [("flow", "cnn"), ("energy", "cnn"), *(("signed", name) for name in CASES)])
def test_verify(name, kind):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data, kind=kind)
    table = P.verify(1e-9)
    assert set(table["name"]) >= {s.name for s in P.synapses}
    norms = {n: float(torch.linalg.vector_norm(g)) for n, g in P.split(P.gradient()).items()}
    for row in table.itertuples():
        assert row.gradient == pytest.approx(norms.get(row.name, 0.0), rel=1e-9)


def test_verify_over_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Dropout(), nn.Linear(3, 2)).double()
    x, y = torch.randn(7, 4).double(), torch.randn(7, 2).double()
    loader = DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True)
    assert len(lg.NeuralCoupling(model, F.mse_loss, loader).verify(1e-12)) == 2
    assert len(lg.NeuralCoupling(model, F.mse_loss, (x, y), training=True).verify(1e-12)) == 2
    assert len(lg.NeuralCoupling(model, nn.MSELoss(reduction="sum"), loader).verify(1e-12)) == 2


def test_verify_names_what_is_wrong():
    class Wrong(nn.Module):
        """A network whose second weight acts otherwise once P is made."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)
            self.changed = False

        def forward(self, x):
            y = self.second(self.first(x).tanh())
            return y.square() if self.changed else y

    model, data = Wrong().double(), (torch.randn(5, 4).double(), torch.randn(5, 2).double())
    P = lg.NeuralCoupling(model, F.mse_loss, data)
    P.verify()
    model.changed = True
    with pytest.raises(IdentityError, match=r"'first\.weight' by .*, 'second\.weight' by "):
        P.verify()
    with pytest.raises(UnsupportedOperationError, match="kind='signed'"):
        lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude").verify()


def test_verify_sees_a_transpose_that_is_none(monkeypatch):
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    monkeypatch.setattr(P, "push", torch.zeros_like)
    with pytest.raises(IdentityError, match="not the transpose"):
        P.verify()
