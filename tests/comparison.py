"""What results are compared with."""

import torch


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
