"""Couplings, and what else changes a model or torch for a time, on several threads."""

import copy
import random
import sys
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as modules
from torch.utils import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from tests.cases import CASES
from tests.comparison import close
from tests.side_by_side import WAIT, Meeting, side_by_side, started

KINDS = ["signed", "magnitude", "flow", "energy"]


class Stopping(nn.Module):
    """A network on whose path threads meet, in the forward pass and in every sweep."""

    def __init__(self, forward=lambda: None, backward=lambda: None):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.second, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.meet, self.meet_back = forward, backward

    def forward(self, x):
        x = torch.tanh(self.norm(self.first(x)))
        self.meet()
        with torch._C.DisableTorchFunction():  # a pass would not add the hook
            if x.grad_fn is not None:
                x.grad_fn.register_prehook(lambda _: self.meet_back())
        return self.last(torch.tanh(self.second(x)))


def batch(samples=8):
    return torch.randn(samples, 4).double(), torch.randint(0, 3, (samples,))


def vectors(P):
    """All that products give."""
    v = torch.linspace(-1, 2, P.num_nodes, dtype=P.dtype)
    block = torch.stack([v, v.flip(0)], 1)
    parts = [P @ v, P.T @ v, (P @ block).flatten(), P.in_strength(), P.out_strength(), P.gradient(), P.drive()]
    return torch.cat([*parts, torch.tensor([*P.walks(), P.total(v)], dtype=P.dtype)])


def flags(model):
    """What a pass changes of a model for a time."""
    return (
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [p._backward_hooks for p in model.parameters()],
        [id(b) for b in model.buffers()],
        [list(m._forward_hooks) for m in model.modules()],
    )


def process_wide():
    """What torch, NumPy and Python have once for all threads, and what each thread has of its own."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    return {
        "compile": torch.compile,
        "stance": frames and frames._stance,
        "checkpoint": checkpoint._checkpoint_without_reentrant_generator,
        "reentrant checkpoint": dict(vars(checkpoint.CheckpointFunction)).get("apply"),
        "hooks": (id(modules._global_backward_hooks), id(modules._global_backward_pre_hooks)),
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
        "torch's numbers": torch.get_rng_state().tolist(),
        "NumPy's numbers": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "Python's numbers": random.getstate(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
    }


# one coupling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_one_coupling(kind):
    """A sweep of the second thread begins while the first is in one."""
    model, data = Stopping().double(), batch()
    P = lg.NeuralCoupling(model, F.cross_entropy, data, kind=kind)
    expected = vectors(P)
    for times in range(4):  # the sweeps of a fresh tape for its gradients, and those after
        P = lg.NeuralCoupling(model, F.cross_entropy, data, kind=kind) if times % 2 else P
        model.meet_back = meeting = Meeting()
        for found in meeting.beside(lambda P=P: vectors(P), lambda P=P: vectors(P)):
            close(found, expected)


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_products_of_one_coupling_on_batches(kind, shuffle):
    model, (x, y) = Stopping().double(), batch(9)
    loader = DataLoader(TensorDataset(x, y), 3, shuffle=shuffle)
    P = lg.NeuralCoupling(model, F.cross_entropy, loader, kind=kind)
    expected = vectors(P)
    model.meet = meeting = Meeting()
    for found in meeting.beside(lambda: vectors(P), lambda: vectors(P)):
        close(found, expected)
    for found in side_by_side(*[lambda: vectors(P)] * 3):
        close(found, expected)


def test_random_numbers_of_passes():
    """Each pass draws its own, while another one draws more of them."""
    x, y = batch(9)
    couplings, meet = [], [lambda: None]
    for width in (5, 50):
        layers = nn.Linear(4, width), nn.Dropout(0.5), nn.Tanh(), nn.Linear(width, 9), nn.Dropout(0.5), nn.Linear(9, 3)
        model = nn.Sequential(*layers).double()
        data = [(x[:4], y[:4]), (x[4:], y[4:])]
        couplings.append(lg.NeuralCoupling(model, F.cross_entropy, data, training=True))
        model[2].register_forward_hook(lambda *_: meet[0]())
    expected, meet[0] = [P.gradient() for P in couplings], Meeting()
    before = process_wide()
    for found, right in zip(meet[0].beside(*[P.gradient for P in couplings]), expected, strict=True):
        close(found, right)
    assert process_wide() == before


def test_explicit_graphs_of_one_coupling():
    model, data = Stopping().double(), batch()
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    expected = P.to_graph()
    P = lg.NeuralCoupling(model, F.cross_entropy, data)  # has no structure yet
    model.meet, model.meet_back = Meeting(), Meeting()
    works = [P.to_graph, lambda: P.num_edges, lambda: lg.line_graph(P), lambda: lg.coarse_graph(P, "layer")]
    graph, count, line, _ = model.meet.beside(*works)
    assert count == expected.num_edges == graph.num_edges == line.num_edges
    close(graph.weight, expected.weight)
    assert torch.equal(graph.edge_index, expected.edge_index)


# one model ------------------------------------------------------------------------------------------------


def passes(model, data):
    """All that changes a model for a time."""
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    return {
        "coupling": lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data)),
        "other synapses": lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data, include=["first.weight"])),
        "training mode": lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data, training=True)),
        "magnitude": lambda: vectors(lg.NeuralCoupling(model, F.cross_entropy, data, kind="magnitude")),
        "product": lambda: vectors(P),
        "verify": lambda: torch.tensor(P.verify(1e-6)["gradient"].to_numpy()),
        "tracker": lambda: torch.tensor(
            lg.CapacitanceTracker(model, F.cross_entropy, data, kind="magnitude").record()["beta_eff"]
        ),
        "neuron graph": lambda: lg.neuron_graph(model, data[0]).activation,
        "edges": lambda: torch.tensor(lg.NeuralCoupling(model, F.cross_entropy, data).num_edges),
        "drift": lambda: torch.tensor(lg.dynamics.drift(model, F.cross_entropy, data, [1e-3])["real"].to_numpy()),
    }


@pytest.mark.parametrize("name", passes(Stopping().double(), batch()))
def test_one_model(name):
    """Another pass is asked for while the model is in the mode of the first."""
    model, data = Stopping().double().train(), batch()
    model.second.bias.requires_grad_(False)
    works = passes(model, data)
    expected = {other: work() for other, work in works.items()}
    before, state = flags(model), copy.deepcopy(model.state_dict())
    for other in ("coupling", "training mode", "neuron graph"):
        model.meet = Meeting(0.15)
        found = model.meet.beside(works[other], works[name])
        close(found[0], expected[other])
        close(found[1], expected[name])
        assert flags(model) == before
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))


def test_models_that_share_parameters():
    first, data = Stopping().double().train(), batch()
    second = Stopping().double()
    second.first = first.first
    second.first.weight.requires_grad_(False)

    def couple(model, include):
        return vectors(lg.NeuralCoupling(model, F.cross_entropy, data, include=include))

    works = lambda: couple(first, None), lambda: couple(second, ["second.weight", "last.weight"])
    expected = [work() for work in works]
    first.meet = second.meet = meeting = Meeting()
    for found, right in zip(meeting.beside(*works), expected, strict=True):
        close(found, right)
    assert not second.first.weight.requires_grad
    assert second.first.bias.requires_grad


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_pass_that_fails_beside_another(error):
    model, data = Stopping().double().train(), batch()
    right = vectors(lg.NeuralCoupling(model, F.cross_entropy, data))
    before, everything = flags(model), process_wide()
    meeting = Meeting()

    def fails(outputs, targets):
        meeting()
        raise error

    def first():
        with pytest.raises(error):
            lg.NeuralCoupling(model, fails, data)

    def loss(outputs, targets):
        meeting()
        return F.cross_entropy(outputs, targets)

    _, found = meeting.beside(first, lambda: vectors(lg.NeuralCoupling(model, loss, data)))
    close(found, right)
    assert flags(model) == before
    assert process_wide() == everything


def test_records_of_one_tracker():
    model, data = Stopping().double(), batch()
    tracker = lg.CapacitanceTracker(model, F.cross_entropy, data, kind="magnitude")
    side_by_side(*[lambda: [tracker.record() for _ in range(3)]] * 3)
    assert sorted(tracker.history["epoch"]) == [*range(1, 10)]
    assert tracker.history["beta_eff"].nunique() == 1


# several models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", [False, True])
def test_nothing_stays_changed(compiler):
    """Passes that would overlap, and end in the order in which they began."""
    if compiler:
        import torch._dynamo  # noqa: F401
    models, data = [Stopping().double() for _ in range(3)], batch()
    expected = [vectors(lg.NeuralCoupling(model, F.cross_entropy, data)) for model in models]
    hook = modules.register_module_full_backward_hook(lambda *_: None)
    pre_hook = modules.register_module_full_backward_pre_hook(lambda *_: None)
    try:
        before = process_wide()
        meeting = Meeting()
        for model in models:
            model.meet = meeting
        works = [lambda model=model: vectors(lg.NeuralCoupling(model, F.cross_entropy, data)) for model in models]
        for found, right in zip(meeting.beside(*works), expected, strict=True):
            close(found, right)
        assert process_wide() == before
    finally:
        hook.remove()
        pre_hook.remove()
    assert not modules._global_backward_hooks
    assert not modules._global_backward_pre_hooks


def fused():
    """Which kernels may be taken for attention, and which one is."""
    q = torch.ones(1, 1, 4, 8, requires_grad=True)
    allowed = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    return *allowed, F.scaled_dot_product_attention(q, q, q).grad_fn.name()


FUSED = fused()


@pytest.fixture
def within_a_pass():
    """Another thread in the middle of a pass, until the test ends."""
    inside, leave = threading.Event(), threading.Event()

    def stop():
        inside.set()
        assert leave.wait(WAIT)

    model, data = Stopping(stop).double(), batch()
    _, result = started(lambda: lg.NeuralCoupling(model, F.cross_entropy, data).in_strength())
    assert inside.wait(WAIT)
    yield
    leave.set()
    result()


def test_other_threads_compile(within_a_pass):
    calls = []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(nn.Linear(3, 2), backend=backend)
    assert hasattr(compiled, "_orig_mod")
    compiled(torch.ones(1, 3)).sum().backward()
    assert len(calls) == 1
    with torch.compiler.set_stance("force_eager"):
        torch.compile(nn.Linear(3, 2), backend=backend)(torch.ones(1, 3))
    assert len(calls) == 1


@pytest.mark.parametrize("reentrant", [False, True])
def test_other_threads_checkpoint(within_a_pass, reentrant):
    seen = []

    def function(x):
        seen.append(1)
        return x.sin().sin()

    checkpoint.checkpoint(function, torch.ones(3, requires_grad=True), use_reentrant=reentrant).sum().backward()
    assert len(seen) == 2, "the function is run again for its gradient"


def test_other_threads_fuse_attention(within_a_pass):
    assert fused() == FUSED


def test_other_threads_are_called_back(within_a_pass):
    called = []
    with within_hooks(called):
        nn.Linear(3, 2)(torch.ones(1, 3, requires_grad=True)).sum().backward()
    assert called == ["before", "after"]


def within_hooks(called):
    """Hooks that all modules share, and that know who calls them."""
    stack = torch.nn.modules.module

    class Hooks:
        def __enter__(self):
            self.handles = [
                stack.register_module_full_backward_pre_hook(lambda *_: called.append("before")),
                stack.register_module_full_backward_hook(lambda *_: called.append("after")),
            ]

        def __exit__(self, *_):
            for handle in self.handles:
                handle.remove()

    return Hooks()


def test_hooks_that_all_modules_share_come_and_go_while_a_pass_runs():
    called, data = [], batch()
    inside, leave = threading.Event(), threading.Event()

    def stop():
        inside.set()
        assert leave.wait(WAIT)

    model = Stopping(stop).double()
    outer = within_hooks(called)
    with outer:
        _, result = started(lambda: lg.NeuralCoupling(model, F.cross_entropy, data).in_strength())
        assert inside.wait(WAIT)
        inner = within_hooks(called)
        inner.__enter__()
        nn.Linear(3, 2)(torch.ones(1, 3, requires_grad=True)).sum().backward()
        assert called == ["before", "before", "after", "after"]
        leave.set()
        result()
        assert len(called) == 4
        inner.__exit__()
        nn.Linear(3, 2)(torch.ones(1, 3, requires_grad=True)).sum().backward()
        assert len(called) == 6
    assert not modules._global_backward_hooks
    assert not modules._global_backward_pre_hooks


def test_modes_of_other_threads(within_a_pass):
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.Linear(3, 2)(torch.ones(1, 3)).dtype == torch.bfloat16
    with torch.no_grad():
        assert not nn.Linear(3, 2)(torch.ones(1, 3)).requires_grad
    assert nn.Linear(3, 2)(torch.ones(1, 3)).requires_grad


# passes within passes, and data that wait --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize("inner_kind", ["signed", "magnitude"])
@pytest.mark.parametrize("place", ["model", "same model", "loss", "data"])
def test_a_coupling_within_the_pass_of_another(kind, inner_kind, place):
    outer, inner, data = Stopping().double(), Stopping().double(), batch()

    def numbers(P):
        return torch.cat([vectors(P), torch.tensor([P.num_edges], dtype=P.dtype)])

    right = numbers(lg.NeuralCoupling(outer, F.cross_entropy, data, kind=kind))
    within = outer if place == "same model" else inner
    right_within = numbers(lg.NeuralCoupling(within, F.cross_entropy, data, kind=inner_kind))
    found, busy = [], []

    def couple(*_):
        if not busy:
            busy.append(1)
            found.append(numbers(lg.NeuralCoupling(within, F.cross_entropy, data, kind=inner_kind)))
            busy.clear()

    class Loader:
        def __iter__(self):
            couple()
            yield data

    def loss(outputs, targets):
        if place == "loss":
            couple()
        return F.cross_entropy(outputs, targets)

    if place in ("model", "same model"):
        outer.meet = couple
    P = lg.NeuralCoupling(outer, loss, Loader() if place == "data" else data, kind=kind)
    close(numbers(P), right)
    for one in found:
        close(one, right_within)
    assert found


class Prefetching:
    """Batches from a thread of their own, which couples a model before it gives one."""

    def __init__(self, batches, couple):
        self.batches, self.couple = batches, couple

    def __iter__(self):
        for one in self.batches:
            yield started(lambda one=one: (self.couple(), one)[1])[1]()


@pytest.mark.parametrize("streamed", [False, True])
def test_data_whose_own_thread_couples(streamed):
    outer, inner, (x, y) = Stopping().double(), Stopping().double(), batch()
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    data = DataLoader(TensorDataset(x, y), 4) if streamed else (x, y)
    right = vectors(lg.NeuralCoupling(outer, F.cross_entropy, batches))
    right_within = lg.NeuralCoupling(inner, F.cross_entropy, data).in_strength()
    found = []
    loader = Prefetching(batches, lambda: found.append(lg.NeuralCoupling(inner, F.cross_entropy, data).in_strength()))
    before = process_wide()
    P = lg.NeuralCoupling(outer, F.cross_entropy, loader)
    v = torch.linspace(-1, 2, P.num_nodes, dtype=P.dtype)
    close(P @ v, right[: P.num_nodes])
    for one in found:
        close(one, right_within)
    assert process_wide() == before


@pytest.mark.parametrize("name", ["cnn", "lstm", "residual_batch_norm", "attention"])
def test_architectures(name):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data)
    expected = vectors(P)
    works = [lambda: vectors(P), lambda: vectors(lg.NeuralCoupling(model, loss, data))] * 2
    for found in side_by_side(*works):
        close(found, expected)
