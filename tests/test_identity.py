import collections
import dataclasses
import enum
import functools
import itertools
import logging
import os
import pickle
import random
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from linegraph import dynamics
from linegraph.errors import DataError
from linegraph.identity import agree, describe, digest

WEIGHT, STEEP = torch.tensor([1.0, 2.0]), 3.0


def make(number):
    return lambda o, t: number * F.cross_entropy(o, t)


def default(o, t, scale=1.0):
    return scale * F.cross_entropy(o, t)


def of_globals(value):
    """A function that reads a global with this value."""
    return types.FunctionType((lambda x: SCALE * x).__code__, {"SCALE": value, "__name__": "mine"})  # noqa: F821


def calling(body):
    """A function that calls another one of the same name, with this body."""
    there = {"__name__": "mine"}
    exec(f"def inner(x): return {body}\ndef outer(x): return inner(x)", there)
    return there["outer"]


def of_module(body):
    """A function that calls one of a module of the user's own."""
    module = types.ModuleType("mine")
    exec(f"def inner(x): return {body}\ndef unused(x): return x", vars(module))
    there = {"__name__": "mine", "module": module}
    exec("def outer(x): return module.inner(x)", there)
    return there["outer"]


def wrapped(body):
    """A loss that wraps torch's, by whose name it goes."""

    @functools.wraps(F.cross_entropy)
    def loss(o, t):
        return body(F.cross_entropy(o, t))

    return loss


class Net(nn.Module):
    def __init__(self, act=torch.relu, scale=1.0, table=None):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.act, self.scale = nn.Linear(3, 3), act, scale
        self.register_buffer("table", torch.zeros(2) if table is None else table, persistent=False)

    def forward(self, x):
        return self.act(self.a(x)) * self.scale


def of_method(body):
    """A model whose class has a method with this body; all have one name."""
    return type("Net", (Net,), {"forward": body})()


def decay(rate):
    class Decay(dynamics.Dynamics):
        def self_term(self, x):
            return -rate * x

        def pair_term(self, x, y):
            return y

    return Decay()


def changed(thing, change):
    change(thing)
    return thing


class Color(enum.Enum):
    RED, BLUE = 1, 2


class Slots:
    __slots__ = ("__hidden", "a")

    def __init__(self, a, hidden=0):
        self.a, self.__hidden = a, hidden


@dataclasses.dataclass
class Parameters:
    a: float = 1.0
    b: object = None


Point, Other = collections.namedtuple("Point", "x y"), collections.namedtuple("Other", "x y")


def loader(**more):
    return DataLoader(TensorDataset(torch.arange(6.0), torch.arange(6)), **{"batch_size": 2, **more})


def seeded(seed, kind=torch.Generator):
    return torch.Generator().manual_seed(seed) if kind is torch.Generator else kind(seed)


def hooked(hook):
    return changed(Net(), lambda m: m.register_forward_hook(hook))


def on_the_gradient(hook):
    return changed(Net(), lambda m: m.a.weight.register_hook(hook))


def scheduled(rate):
    optimizer = torch.optim.SGD(Net().parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, rate)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return optimizer


def tied(yes):
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(1), net[1].weight.fill_(1)
    if yes:
        net[1].weight = net[0].weight
    return net


def with_buffer(value):
    return Net(table=torch.tensor(value))


APART = {
    "numbers": lambda: (1, 1.0, True, "1", b"1", None, 1j, -1, 0.0, -0.0, np.float32(1), np.int64(1)),
    "containers": lambda: ([1, 2], (1, 2), {1, 2}, frozenset({1, 2}), {1: 2}, [2, 1], [[1], 2], [1, [2]], {2: 1}),
    "long lists": lambda: ([0] * 999 + [1], [0] * 1000, [0.0] * 1000, tuple([0] * 1000)),
    "nested": lambda: ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, {"a": [1, {"c": 2}]}),
    "label smoothing": lambda: tuple(nn.CrossEntropyLoss(label_smoothing=s) for s in (0.0, 0.1, 0.5)),
    "class weights": lambda: (nn.CrossEntropyLoss(), *(nn.CrossEntropyLoss(torch.tensor(w)) for w in ([1.0], [2.0]))),
    "ignored targets": lambda: (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(ignore_index=0)),
    "reductions": lambda: (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")),
    "partials": lambda: (
        F.cross_entropy,
        functools.partial(F.cross_entropy, label_smoothing=0.1),
        functools.partial(F.cross_entropy, label_smoothing=0.2),
        functools.partial(F.nll_loss, label_smoothing=0.2),
        functools.partial(F.cross_entropy, weight=torch.tensor([1.0, 2.0])),
        functools.partial(F.cross_entropy, weight=torch.tensor([1.0, 3.0])),
    ),
    "library functions": lambda: (torch.relu, torch.sin, F.relu, F.gelu, torch.Tensor.relu, len, np.sin, np.cos),
    "lambdas": lambda: (
        lambda o, t: F.cross_entropy(o, t),
        lambda o, t: 3 * F.cross_entropy(o, t),
        lambda o, t: F.nll_loss(o, t),
        lambda t, o: F.cross_entropy(t, o) + 0,
    ),
    "closures": lambda: (make(1.0), make(2.0), make(torch.tensor(1.0)), make(torch.tensor(2.0)), make(WEIGHT)),
    "defaults": lambda: (default, *(changed(make(1.0), lambda f, d=d: setattr(f, "__defaults__", d)) for d in ((1,),))),
    "keyword defaults": lambda: (lambda x, *, a=1: x, lambda x, *, a=2: x, lambda x, *, b=1: x),
    "globals": lambda: (of_globals(1), of_globals(2), of_globals(torch.ones(2)), of_globals(torch.zeros(2))),
    "functions called": lambda: (calling("x"), calling("x + 1"), calling("x + 2")),
    "modules of one's own": lambda: (of_module("x"), of_module("x + 1")),
    "inner functions": lambda: (lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x], lambda x: lambda: x),
    "wraps": lambda: (F.cross_entropy, wrapped(lambda x: x), wrapped(lambda x: 2 * x)),
    "bound methods": lambda: (nn.CrossEntropyLoss().forward, nn.CrossEntropyLoss(label_smoothing=0.5).forward),
    "activations": lambda: (Net(torch.relu), Net(torch.sin), Net(F.relu), Net(nn.ReLU()), Net(nn.Tanh())),
    "lambda activations": lambda: (Net(lambda x: x), Net(lambda x: x + 1), Net(functools.partial(F.elu, alpha=2.0))),
    "attributes": lambda: (Net(), Net(scale=2.0), Net(scale=None), Net(scale=[1]), Net(scale={"a": 1})),
    "buffers that are not kept": lambda: (with_buffer([0.0, 1.0]), with_buffer([0.0, 2.0])),
    "methods": lambda: (
        Net(),
        of_method(lambda self, x: self.act(self.a(x))),
        of_method(lambda self, x: self.act(self.a(x)) + 1),
        of_method(lambda self, x: self.a(x)),
    ),
    "weights": lambda: (Net(), changed(Net(), lambda m: m.a.weight.data.add_(1e-6))),
    "frozen": lambda: (Net(), changed(Net(), lambda m: m.a.weight.requires_grad_(False))),
    "dropout": lambda: (nn.Dropout(0.1), nn.Dropout(0.2), nn.Dropout1d(0.1)),
    "order of layers": lambda: (nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Sequential(nn.Tanh(), nn.ReLU())),
    "hooks": lambda: (Net(), hooked(lambda m, x, y: y), hooked(lambda m, x, y: y + 1)),
    "hooks on gradients": lambda: (Net(), on_the_gradient(lambda g: g), on_the_gradient(lambda g: 2 * g)),
    "tied weights": lambda: (tied(True), tied(False)),
    "half precision": lambda: (torch.ones(2), torch.ones(2).half(), torch.ones(2).bfloat16(), torch.ones(2).double()),
    "shapes": lambda: (torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(6), torch.zeros(6, 1), torch.zeros(())),
    "values": lambda: (torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]), torch.tensor([float("nan")])),
    "layouts": lambda: (torch.eye(2), torch.eye(2).to_sparse()),
    "sparse": lambda: (torch.eye(2).to_sparse(), (2 * torch.eye(2)).to_sparse(), torch.ones(2, 2).to_sparse()),
    "complex": lambda: (torch.tensor([1j]), torch.tensor([1j]).conj(), torch.tensor([2j])),
    "arrays": lambda: (
        np.arange(3),
        np.arange(3.0),
        np.arange(3)[::-1],
        np.arange(4),
        np.array(["a"]),
        np.array([[0]]),
    ),
    "object arrays": lambda: (np.array([1, "a"], object), np.array([1, "b"], object)),
    "generators": lambda: (*(seeded(s) for s in (0, 1)), *(seeded(s, np.random.default_rng) for s in (0, 1))),
    "more generators": lambda: (
        *(seeded(s, random.Random) for s in (0, 1)),
        *(seeded(s, np.random.RandomState) for s in (0, 1)),
    ),
    "optimizers": lambda: (
        torch.optim.SGD(Net().parameters(), lr=0.1),
        torch.optim.SGD(Net().parameters(), lr=0.2),
        torch.optim.SGD(Net().parameters(), lr=0.1, nesterov=True, momentum=0.9),
        torch.optim.Adam(Net().parameters(), lr=0.1),
    ),
    "schedules": lambda: (scheduled(0.9), scheduled(0.8)),
    "loaders": lambda: (
        loader(),
        loader(batch_size=3),
        loader(shuffle=True),
        loader(drop_last=True),
        loader(shuffle=True, generator=seeded(0)),
        loader(shuffle=True, generator=seeded(1)),
        loader(collate_fn=lambda batch: batch),
    ),
    "data": lambda: (TensorDataset(torch.zeros(3)), TensorDataset(torch.ones(3)), TensorDataset(torch.zeros(4))),
    "dynamics": lambda: (decay(1.0), decay(2.0), dynamics.Mutualistic(), dynamics.Mutualistic(K=4.0)),
    "drives": lambda: tuple(dynamics.EdgeDynamics(torch.tensor([d])) for d in (1.0, 1.000001)),
    "enums": lambda: (Color.RED, Color.BLUE, 1),
    "dataclasses": lambda: (Parameters(), Parameters(2.0), Parameters(b=make(1.0)), Parameters(b=make(2.0))),
    "slots": lambda: (Slots(1), Slots(2), Slots(1, hidden=1)),
    "named tuples": lambda: (Point(1, 2), Point(2, 1), Other(1, 2), (1, 2)),
    "dtypes": lambda: (torch.float32, torch.float64, np.dtype("f4"), torch.strided, torch.Size([1]), (1,)),
    "queues": lambda: (collections.deque([1]), collections.deque([1], 2), collections.deque([2]), [1]),
    "factories": lambda: (collections.defaultdict(int), collections.defaultdict(list), {}),
    "counts": lambda: (itertools.count(1), itertools.count(2)),
    "ranges": lambda: (range(3), range(4), slice(0, 3), slice(0, 4)),
    "classes": lambda: (nn.ReLU, nn.Tanh, Net, type("Net", (Net,), {}), type("Net", (Net,), {"scale": 2})),
}


@pytest.mark.parametrize("name", APART)
def test_what_differs_has_another_digest(name):
    things = APART[name]()
    assert len({digest(thing) for thing in things}) == len(things), [describe(thing) for thing in things]


@pytest.mark.parametrize("name", APART)
def test_what_is_made_again_has_the_same_digest(name):
    assert [digest(thing) for thing in APART[name]()] == [digest(thing) for thing in APART[name]()]


def test_digests_do_not_depend_on_the_process():
    code = "from tests.test_identity import *; [print(n, *map(digest, made())) for n, made in APART.items()]"
    settings = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    printed = subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [" ".join([name, *map(digest, made())]) for name, made in APART.items()]


def test_what_travels_to_a_worker_keeps_its_digest():
    for thing in (Net(), nn.CrossEntropyLoss(WEIGHT), functools.partial(default, scale=2.0), loader(), Parameters()):
        assert digest(pickle.loads(pickle.dumps(thing))) == digest(thing)


def test_names_places_and_addresses_are_no_part_of_an_identity():
    def one(x):
        return x + STEEP

    two = lambda x: x + STEEP  # noqa: E731
    assert digest(one) == digest(two)
    assert digest(object()) == digest(object())
    assert digest({"b", "a"}) == digest({"a", "b"})
    assert digest(threading.Lock()) == digest(threading.Lock())
    assert digest(logging.getLogger("here")) == digest(logging.getLogger("here"))


def test_what_a_gradient_or_a_compiler_leaves_changes_no_digest():
    net = Net()
    before = digest(net)
    net(torch.ones(1, 3)).sum().backward()
    assert digest(net) == before
    assert digest(torch.compile(net)) == before
    net._compile_kwargs = {"mode": None}  # as Lightning leaves, which replaces torch.compile
    assert digest(net) == before


def test_a_loader_that_was_read_is_the_same():
    fresh = loader()
    before = digest(fresh)
    list(fresh), len(fresh)
    assert digest(fresh) == before


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripted_and_traced_modules_are_told_apart():
    traced = [torch.fx.symbolic_trace(Net(act)) for act in (torch.relu, torch.sin, torch.relu)]
    scripted = [torch.jit.trace(Net(act), torch.ones(1, 3)) for act in (torch.relu, torch.sin, torch.relu)]
    for first, second, third in (traced, scripted):
        assert digest(first) == digest(third) != digest(second)


class Node:
    def __init__(self):
        self.me, self.peers, self.list, self.other = self, {self}, [self], None


def test_cycles_end():
    ring: list = [1]
    ring.append(ring)
    also: dict = {"a": {}}
    also["a"]["b"] = also
    pair = Node(), Node()
    pair[0].other, pair[1].other = pair[1], pair[0]
    pair[0].peers.update(pair)

    def recursive(x):
        return recursive(x)

    for thing in (ring, also, *pair, recursive):
        assert digest(thing) == digest(thing)
    assert describe(ring) == describe(ring)


def test_deep_structures_end():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert digest(deep) == digest(deep)
    assert digest(deep) != digest([deep])


def test_what_cannot_be_read_is_its_class_alone():
    assert digest(open(os.devnull)) == digest(open(os.devnull))  # noqa: SIM115
    assert digest(x for x in "a") != digest(iter([1]))


def test_descriptions_are_readable():
    smoothed = functools.partial(F.cross_entropy, label_smoothing=0.1)
    assert describe(F.cross_entropy).startswith("torch.nn.functional.cross_entropy #")
    assert describe(smoothed).startswith("partial(torch.nn.functional.cross_entropy, label_smoothing=0.1) #")
    assert describe(nn.Dropout(0.25)).startswith("Dropout(p=0.25, inplace=False) #")
    assert describe(make(2.0)).startswith("<lambda>(number=2.0) #")
    assert describe((torch.ones(3, 2), torch.arange(3))).startswith("(float32 (3, 2), int64 (3,)) #")


def test_settings_that_differ_are_named(tmp_path):
    agree(tmp_path, {"seed": 0, "older": 1}, {"seed": 0})
    with pytest.raises(DataError, match=r"made with other settings: seed \(0, now 1\), kind \(None, now a\); take"):
        agree(tmp_path, {"seed": 0}, {"seed": 1, "kind": "a"})
