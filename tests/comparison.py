"""What results are compared with."""

import pytest
import torch

import linegraph as lg
from linegraph.errors import CoverageWarning, UnsupportedOperationError


def true_gradient(model, loss, data, names):
    inputs, targets = data
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(loss(model(inputs), targets), [parameters[n] for n in names], allow_unused=True)
    return torch.cat([g.flatten() for g in grads])


def close(found, expected, tolerance=1e-10, atol=None):
    """Differences are at most ``tolerance`` times the largest number expected, plus ``atol`` (or ``tolerance``)."""
    found, expected = (x if torch.is_tensor(x) else torch.as_tensor(x, dtype=torch.float64) for x in (found, expected))
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    atol = tolerance * scale + (tolerance if atol is None else atol)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=atol)


def left_out(made, *names, match, **options):
    """The coupling in which weights without a rule are left out, with a warning; chosen, they are an error."""
    with pytest.raises(UnsupportedOperationError, match=match):
        lg.NeuralCoupling(*made, include=lambda name, p: p.ndim > 1, **options)
    with pytest.warns(CoverageWarning, match=names[0]) as warned:
        P = lg.NeuralCoupling(*made, **options)
    assert len(warned) == 1
    table = P.coverage().set_index("name")
    reasons = table["reason"][table["reason"].str.startswith("left out: ")]
    assert set(reasons.index) == set(names)
    assert set(table["role"][reasons.index]) == {"path"}
    trainable = table[~table["role"].isin(["bias", "frozen"])]["numel"].sum()
    assert P.covered == pytest.approx(P.num_nodes / trainable)
    if P.kind != "magnitude":  # which has no such identity
        P.verify()
    return P
