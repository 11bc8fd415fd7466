"""Passes over batches, in the modes of the caller and of the model, which comes back as it was."""

import copy
import gc
import random
import weakref
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import linegraph as lg
from linegraph.errors import DataError
from tests.cases import CASES, Written, squared
from tests.comparison import close, true_gradient


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
@pytest.mark.parametrize("name", ["mlp", "residual_batch_norm"])
def test_loader_equals_concatenated_data(kind, name):
    model, loss, (x, y) = CASES[name].make(samples=7)
    whole = lg.NeuralCoupling(model, loss, (x, y), kind=kind)
    parts = lg.NeuralCoupling(model, loss, DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True), kind=kind)
    v = torch.randn(whole.num_nodes, 2, dtype=torch.float64)
    for product in ("matvec", "rmatvec"):
        close(getattr(parts, product)(v), getattr(whole, product)(v))
    for vector in ("in_strength", "out_strength", "gradient", "drive"):
        close(getattr(parts, vector)(), getattr(whole, vector)())
    assert lg.capacitance(parts).beta_eff == pytest.approx(lg.capacitance(whole).beta_eff, rel=1e-9)


def marked(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum")


marked.reduction = "sum"


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        partial(F.cross_entropy, reduction="sum"),
        partial(nn.CrossEntropyLoss(reduction="sum")),
        marked,
        partial(marked),
    ],
)
def test_a_loss_that_sums_adds_over_batches(loss):
    model, _, (x, y) = CASES["mlp"].make(samples=7)
    whole = lg.NeuralCoupling(model, loss, (x, y))
    parts = lg.NeuralCoupling(model, loss, [(x[:4], y[:4]), (x[4:], y[4:])])
    close(parts.in_strength(), whole.in_strength())


def test_a_loader_without_a_length():
    model, loss, (x, y) = CASES["mlp"].make(samples=7)

    class Stream(IterableDataset):
        def __iter__(self):
            return zip(x, y, strict=True)

    P = lg.NeuralCoupling(model, loss, DataLoader(Stream(), 3))
    close(P.in_strength(), lg.NeuralCoupling(model, loss, (x, y)).in_strength())


def test_streaming_keeps_no_pass():
    model, loss, (x, y) = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, [(x, y), (x, y)])
    tapes = []
    for tape, _ in P.passes.tapes():
        tapes.append(weakref.ref(tape))
        del tape
    assert all(reference() is None for reference in tapes)  # freed without the garbage collector
    gc.collect()


def test_the_model_comes_back_as_it_was():
    model, loss, data = CASES["residual_batch_norm"].make()
    model.train()
    model.norm2.eval()
    model.conv.bias.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    seen = []
    model.head.register_forward_hook(lambda *_: seen.append(1))
    state = copy.deepcopy(model.state_dict())
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    modes = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    randomness = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    P = lg.NeuralCoupling(model, loss, DataLoader(TensorDataset(*data), 2, shuffle=True), training=True)
    lg.capacitance(P)
    assert P.num_edges
    assert seen, "the user's hooks run"
    assert [m.training for m in model.modules()] == modes
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert model.head.weight.grad.eq(1).all()
    assert model.stem.weight.grad is None
    assert torch.equal(torch.get_rng_state(), randomness[0])
    assert (np.random.get_state()[1] == randomness[1]).all()  # noqa: NPY002
    assert random.getstate() == randomness[2]


def test_inputs_of_other_classes_are_passed_on_as_they_are():
    class Lengths(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.out = nn.GRU(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = x if isinstance(x, nn.utils.rnn.PackedSequence) else x["sequence"][0]
            return self.out(self.cells(x)[1][0])

    torch.manual_seed(0)
    model, y = Lengths().double(), torch.randn(2, 2).double()
    sequence = nn.utils.rnn.pack_sequence([torch.randn(4, 3).double(), torch.randn(2, 3).double()])
    P = lg.NeuralCoupling(model, F.mse_loss, (sequence, y))
    assert len(P.verify(1e-9)) == 3

    class Opaque:
        def __getitem__(self, name):
            return [sequence]

    def loss(outputs, _):
        return F.mse_loss(outputs, y)

    Q = lg.NeuralCoupling(model, loss, (Opaque(), None))
    close(Q.gradient(), P.gradient())
    with pytest.raises(DataError, match=r"number of samples, by which batches are weighted.*pass targets"):
        lg.NeuralCoupling(model, loss, [(Opaque(), None)] * 2)


def test_what_a_forward_pass_keeps_is_forgotten():
    """States, counters, caches, buffers that are filled: the next pass starts from what the caller's model holds."""

    def forward(net, x):
        net.state = torch.tanh(net.a(x) + net.state)
        net.steps += 1
        net.kept.append(net.state)
        net.cache["state"] = net.filled = net.state.detach()
        net.register_buffer("new", net.filled)
        return net.out(net.state)

    torch.manual_seed(0)
    net = Written(forward, a=nn.Linear(4, 4), out=nn.Linear(4, 3), state=torch.zeros(4), steps=0, kept=[], cache={})
    net.register_buffer("filled", None)
    state, batch = net.double().state, (torch.randn(5, 4).double(), torch.randn(5, 3).double())
    P = lg.NeuralCoupling(net, squared, [batch, batch])
    assert len(P.verify(1e-9)) == 2
    assert P.num_edges == 48
    assert (net.state is state, net.steps, net.kept, net.cache) == (True, 0, [], {})
    assert dict(net.named_buffers(remove_duplicate=False)) == {}
    assert net.filled is None


def test_hooks_on_gradients_are_those_of_the_training_step():
    """They are neither called nor lost, and P is that of the loss without them."""
    model, loss, data = CASES["mlp"].make()
    expected = lg.NeuralCoupling(model, loss, data)
    called = []

    def double(*given):
        called.append(given)
        return tuple(2 * g for g in given[1]) if isinstance(given[0], nn.Module) else 2 * given[0]

    def hook_output(module, inputs, output):
        output.retain_grad()
        output.register_hook(double)

    shared = nn.modules.module.register_module_full_backward_hook(lambda *given: called.append(given))
    model[1].register_full_backward_hook(lambda *given: double(*given))
    model[2].register_full_backward_pre_hook(lambda module, g: double(module, g))
    model[2].weight.register_hook(double)
    model[3].register_forward_hook(hook_output)
    P = lg.NeuralCoupling(model, loss, data)
    for vector in ("in_strength", "out_strength", "gradient", "drive"):
        close(getattr(P, vector)(), getattr(expected, vector)())
    assert not called
    loss(model(data[0].requires_grad_()), data[1]).backward()
    shared.remove()
    assert len(called) == 4 + len(list(model.modules()))


def test_a_frozen_embedding_is_not_shortened():
    torch.manual_seed(0)
    table = nn.Embedding(4, 5, max_norm=0.5).requires_grad_(False)
    model = nn.Sequential(table, nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    before = table.weight.clone()
    index, y = torch.tensor([0, 2, 3]), torch.randn(3, 3).double()
    P = lg.NeuralCoupling(model, squared, (index, y))
    found = P.gradient()
    assert P.num_edges
    assert len(P.verify()) == 2
    assert torch.equal(table.weight, before)
    close(found, true_gradient(model, squared, (index, y), [s.name for s in P.synapses]))
    assert not torch.equal(table.weight, before)  # as the model itself does


@pytest.mark.parametrize("after", [1, 2, 4])
def test_the_model_comes_back_after_an_interruption(after):
    """In the first pass, and in the middle of a stream; what is asked of P afterwards is whole."""
    model, loss, data = CASES["residual_batch_norm"].make()
    model.train()
    model.stem.weight.requires_grad_(False)
    batches, state = [data] * 3, copy.deepcopy(model.state_dict())
    calls = []

    def interrupted(outputs, targets):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return loss(outputs, targets)

    made = []

    def stream():
        made.append(lg.NeuralCoupling(model, interrupted, batches, training=True))
        made[0].in_strength()

    randomness = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        stream()
    assert all(m.training for m in model.modules())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["stem.weight"]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert torch.equal(torch.get_rng_state(), randomness)
    assert len(made) == (after > 1)
    for P in made:
        close(P.in_strength(), lg.NeuralCoupling(model, loss, batches, training=True).in_strength())


def test_training_mode_draws_dropout_once():
    model, loss, data = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, [data], training=True)
    close(P.gradient(), P.gradient())
    assert not torch.allclose(P.gradient(), lg.NeuralCoupling(model, loss, data).gradient())


def test_training_mode_identity_with_batch_statistics():
    model, loss, data = CASES["residual_batch_norm"].make()
    P = lg.NeuralCoupling(model, loss, data, training=True)
    model.train()
    gradient = true_gradient(model, loss, data, [s.name for s in P.synapses])
    close(P @ P.weights() + P.drive(), -gradient)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
def test_wrappers_are_seen_through(wrap):
    model, loss, data = CASES["mlp"].make()
    P, Q = lg.NeuralCoupling(model, loss, data), lg.NeuralCoupling(wrap(model), loss, data)
    assert P.synapses == Q.synapses
    close(P.in_strength(), Q.in_strength())


def test_grad_mode_of_the_caller_does_not_matter():
    model, loss, data = CASES["mlp"].make()
    expected = lg.NeuralCoupling(model, loss, data).in_strength()
    with torch.no_grad():
        close(lg.NeuralCoupling(model, loss, data).in_strength(), expected)
    with torch.inference_mode():
        close(lg.NeuralCoupling(model, loss, data).in_strength(), expected)


def test_tuple_and_dict_inputs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x, shift):
            return self.last(torch.relu(self.first(x) + shift))

    model, x, shift, y = Net(), torch.randn(5, 3), torch.ones(4), torch.randn(5, 2)
    strengths = [
        lg.NeuralCoupling(model, F.mse_loss, (inputs, y)).in_strength()
        for inputs in ((x, shift), {"shift": shift, "x": x})
    ]
    torch.testing.assert_close(*strengths)
    assert strengths[0].any()
