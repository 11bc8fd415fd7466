"""All forms of softmax, norms and attention between two synapse layers, against dense absolute Jacobians."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from tests.comparison import close
from tests.coupling.test_kinds import between

EPS = 1e-5
aten = torch.ops.aten
FACTOR, SHIFT = torch.tensor([0.5, -1.5, 2.0, -0.3, 1.0, 0.7]).double(), torch.arange(6).double()


def jacobian(step, x):
    """The dense absolute Jacobian of an operation, of shape (outputs, inputs)."""
    found = torch.autograd.functional.jacobian(step, x).abs()
    return found.reshape(-1, x.numel())


def blocks_agree(path, steps, modules=(), tolerance=1e-10, training=False):
    """The block between both layers is |x| |J| |g|, |J| the product over the steps that make up the path."""
    model, loss, (x, targets) = made = between(path, modules)
    P = lg.NeuralCoupling(*made, kind="magnitude", training=training)
    entries = P @ torch.eye(P.num_nodes, dtype=torch.float64)
    h = model.first(x).detach()
    local = torch.eye(h.numel(), dtype=torch.float64)
    for step in steps:
        local, h = jacobian(step, h) @ local, step(h)
    y = model.last(h.reshape(4, 6)).detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(y, targets), y)
    block = torch.einsum("sj,tpsi,tk->ijkp", x.abs(), local.view(4, 6, 4, 6), g.abs())
    assert block.any()
    close(entries[:18, 18:], block.reshape(18, 12), tolerance)
    close(P.T.matvec(torch.eye(P.num_nodes, dtype=torch.float64)[:, :18]), entries[:18].T, tolerance)


SOFTMAX = {
    "torch": lambda h: torch.softmax(h, 1),
    "keyword": lambda h: torch.softmax(input=h, dim=-1),
    "method": lambda h: h.softmax(dim=1, dtype=torch.float64),
    "special": lambda h: torch.special.softmax(h, 1),
    "functional": lambda h: F.softmax(h, dim=1),
    "operator": lambda h: aten.softmax.int(h, 1),
    "inner operator": lambda h: aten._softmax.default(h, 1, False),
    "safe": lambda h: aten._safe_softmax.default(h, 1),
    "of the negative": lambda h: F.softmin(-h, dim=1),
    "module": lambda h: nn.Softmax(1)(h),
    "two dimensions": lambda h: nn.Softmax2d()(h.view(4, 6, 1, 1)).view(4, 6),
    "written into the input": lambda h: h.clone().copy_(h.softmax(1)),
}
LOG_SOFTMAX = {
    "torch": lambda h: torch.log_softmax(h, 1),
    "method": lambda h: h.log_softmax(dim=1, dtype=torch.float64),
    "special": lambda h: torch.special.log_softmax(h, dim=1),
    "functional": lambda h: F.log_softmax(h, dim=1),
    "operator": lambda h: aten._log_softmax.default(h, 1, False),
    "module": lambda h: nn.LogSoftmax(1)(h),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax(name):
    blocks_agree(SOFTMAX[name], [lambda h: h.softmax(1)])


@pytest.mark.parametrize("name", LOG_SOFTMAX)
def test_log_softmax(name):
    blocks_agree(LOG_SOFTMAX[name], [lambda h: h.log_softmax(1)])


def test_softmax_over_samples_and_in_another_number_type():
    blocks_agree(lambda h: h.softmax(0), [lambda h: h.softmax(0)])
    single = lambda h: torch.softmax(h, 1, dtype=torch.float32).double()  # noqa: E731
    blocks_agree(single, [lambda h: h.softmax(1)], tolerance=1e-5)


def normal(shape, dims, *, centred=True, factor=None, shift=None):
    """The steps of a norm over some dimensions of h in a shape: centring, scaling, factor and shift."""
    steps = [lambda h: h.view(shape)]
    if centred:
        steps.append(lambda h: h - h.mean(dims, keepdim=True))
    steps.append(lambda h: h / (h.square().mean(dims, keepdim=True) + EPS).sqrt())
    if factor is not None:
        steps.append(lambda h: h * factor + shift)
    return [*steps, lambda h: h.view(4, 6)]


def parameters(size, shape):
    """Factors and shifts for some channels, and the options of ``normal`` for them."""
    return FACTOR[:size], SHIFT[:size], {"factor": FACTOR[:size].view(shape), "shift": SHIFT[:size].view(shape)}


W, B, AFFINE = parameters(6, (6,))
W3, B3, AFFINE3 = parameters(3, (3, 1))
W2, B2, AFFINE2 = parameters(2, (2, 1))
LAYER, BATCH, RMS = ((4, 6), 1), ((4, 6), 0), ((4, 6), 1)
GROUPS = ((4, 2, 3), 2)  # two groups of three channels
POSITIONS = ((4, 3, 2), 2)  # three channels of two positions
NORMS = {
    "layer norm": (lambda h: F.layer_norm(h, (6,)), normal(*LAYER)),
    "layer norm with parameters": (lambda h: F.layer_norm(h, (6,), W, B), normal(*LAYER, **AFFINE)),
    "layer norm by keyword": (
        lambda h: torch.layer_norm(input=h, normalized_shape=(6,), bias=B, weight=W, eps=EPS),
        normal(*LAYER, **AFFINE),
    ),
    "layer norm with a factor": (lambda h: torch.layer_norm(h, (6,), W), normal(*LAYER, factor=W, shift=0)),
    "layer norm with a shift": (lambda h: F.layer_norm(h, (6,), bias=B), normal(*LAYER, factor=1, shift=B)),
    "layer norm, operator": (lambda h: aten.layer_norm.default(h, [6], W, B), normal(*LAYER, **AFFINE)),
    "layer norm, inner operator": (
        lambda h: aten.native_layer_norm.default(h, [6], W, B, EPS)[0],
        normal(*LAYER, **AFFINE),
    ),
    "layer norm over two dimensions": (
        lambda h: F.layer_norm(h.view(4, 2, 3), (2, 3), W.view(2, 3)).flatten(1),
        normal(*LAYER, factor=W, shift=0),
    ),
    "layer norm of two": (lambda h: F.layer_norm(h.view(4, 3, 2), (2,)).flatten(1), normal(*POSITIONS)),
    "RMS norm": (lambda h: F.rms_norm(h, (6,), eps=EPS), normal(*RMS, centred=False)),
    "RMS norm with a factor": (
        lambda h: torch.rms_norm(h, [6], W, EPS),
        normal(*RMS, centred=False, factor=W, shift=0),
    ),
    "RMS norm, operator": (
        lambda h: aten.rms_norm.default(h, [6], weight=W, eps=EPS),
        normal(*RMS, centred=False, factor=W, shift=0),
    ),
    "RMS norm of two": (
        lambda h: F.rms_norm(h.view(4, 3, 2), (2,), eps=EPS).flatten(1),
        normal(*POSITIONS, centred=False),
    ),
    "group norm": (lambda h: F.group_norm(h, 2), normal(*GROUPS)),
    "group norm with parameters": (
        lambda h: torch.group_norm(h, 2, W, B),
        normal(*GROUPS, factor=W.view(2, 3), shift=B.view(2, 3)),
    ),
    "group norm of positions": (
        lambda h: F.group_norm(h.view(4, 3, 2), num_groups=1, weight=W3, bias=B3).flatten(1),
        normal((4, 3, 2), (1, 2), **AFFINE3),
    ),
    "group norm, inner operator": (
        lambda h: aten.native_group_norm.default(h.view(4, 3, 2), W3, B3, 4, 3, 2, 3, EPS)[0].flatten(1),
        normal(*POSITIONS, **AFFINE3),
    ),
    "instance norm": (lambda h: F.instance_norm(h.view(4, 3, 2)).flatten(1), normal(*POSITIONS)),
    "instance norm with parameters": (
        lambda h: F.instance_norm(h.view(4, 3, 2), weight=W3, bias=B3, eps=EPS).flatten(1),
        normal(*POSITIONS, **AFFINE3),
    ),
    "instance norm, operator": (
        lambda h: aten.instance_norm.default(h.view(4, 3, 2), W3, B3, None, None, True, 0.1, EPS, False).flatten(1),
        normal(*POSITIONS, **AFFINE3),
    ),
    "instance norm with running statistics": (
        lambda h: F.instance_norm(h.view(4, 3, 2), W3.abs(), W3.abs(), W3, B3, use_input_stats=False).flatten(1),
        [lambda h: F.batch_norm(h.view(4, 3, 2), W3.abs(), W3.abs(), W3, B3).flatten(1)],
    ),
    "batch norm of the batch": (lambda h: F.batch_norm(h, None, None, training=True), normal(*BATCH)),
    "batch norm of the batch with parameters": (
        lambda h: torch.batch_norm(h, W, B, None, None, True, 0.1, EPS, False),
        normal(*BATCH, **AFFINE),
    ),
    "batch norm of the batch and positions": (
        lambda h: F.batch_norm(h.view(4, 2, 3), None, None, W2, B2, True).flatten(1),
        normal((4, 2, 3), (0, 2), **AFFINE2),
    ),
    "batch norm of the batch, operator": (
        lambda h: aten.native_batch_norm.default(h, W, B, None, None, True, 0.1, EPS)[0],
        normal(*BATCH, **AFFINE),
    ),
    "batch norm of the batch, without statistics": (
        lambda h: aten._native_batch_norm_legit.no_stats(h, W, B, True, 0.1, EPS)[0],
        normal(*BATCH, **AFFINE),
    ),
    "batch norm in evaluation mode, operator": (
        lambda h: aten._native_batch_norm_legit_no_training.default(h, W, B, W.abs(), W.abs(), 0.1, EPS)[0],
        [lambda h: F.batch_norm(h, W.abs(), W.abs(), W, B)],
    ),
    "a factor that depends on the input": (
        lambda h: F.layer_norm(h, (6,), h.detach()[0] * 0 + W, B),
        normal(*LAYER, **AFFINE),
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name):
    path, steps = NORMS[name]
    blocks_agree(path, steps)


def with_parameters(norm, size):
    norm.weight.data, norm.bias.data = FACTOR[:size].clone(), SHIFT[:size].clone()
    return norm


MODULES = {
    "LayerNorm": (nn.LayerNorm(6), lambda h, norm: norm(h), normal(*LAYER, **AFFINE)),
    "GroupNorm": (nn.GroupNorm(1, 3), lambda h, norm: norm(h.view(4, 3, 2)), normal((4, 3, 2), (1, 2), **AFFINE3)),
    "InstanceNorm": (
        nn.InstanceNorm1d(3, affine=True),
        lambda h, norm: norm(h.view(4, 3, 2)),
        normal(*POSITIONS, **AFFINE3),
    ),
    "BatchNorm": (nn.BatchNorm1d(6), lambda h, norm: norm(h), normal(*BATCH, **AFFINE)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_in_training_mode(name):
    module, apply, steps = MODULES[name]
    module = with_parameters(copy.deepcopy(module), module.weight.numel())
    blocks_agree(lambda h, norm: apply(h, norm).view(4, 6), steps, [module], training=True)


@pytest.mark.parametrize("make", [lambda: nn.LayerNorm(4), lambda: nn.GroupNorm(2, 4), lambda: nn.InstanceNorm1d(4)])
def test_factors_of_norms_as_synapses(make):
    """With the factors among the nodes the path ends at them, and the norm without them lies before."""
    norm = make()
    is_instance = isinstance(norm, nn.InstanceNorm1d)
    norm = nn.InstanceNorm1d(4, affine=True) if is_instance else norm
    nn.init.normal_(norm.weight)
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 2) if not is_instance else nn.Conv1d(4, 2, 1)).double()
    if is_instance:
        model[0] = nn.Conv1d(3, 4, 1).double()
    x = torch.randn(5, 3, *(4,) * is_instance, dtype=torch.float64)
    made = model, lambda y, t: (y - t).square().sum(), (x, torch.randn(5, 2, *(4,) * is_instance).double())
    P = lg.NeuralCoupling(*made, kind="magnitude", include=lambda name, p: "weight" in name)
    assert [s.name for s in P.synapses] == ["0.weight", "1.weight", "2.weight"]
    signed = lg.NeuralCoupling(*made, include=lambda name, p: "weight" in name)
    dense, bound = P.to_graph().to_dense(), signed.to_graph().to_dense().abs()
    assert (dense >= bound - 1e-12).all()
    close(P @ torch.eye(P.num_nodes, dtype=torch.float64), dense)
    # Between the factors and the last layer lies nothing that mixes.
    close(P.split(P.in_strength())["1.weight"].sum(), dense[12:16].sum())
