"""Every product reads the same data, whatever they are drawn from, or says which batch differs."""

import os
import random
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import linegraph as lg
from linegraph.coupling.model.checksums import digest, pieces_of, sketch
from linegraph.errors import DataError
from tests.comparison import close

torch.manual_seed(0)
X, Y = torch.randn(20, 5).double(), torch.randn(20, 3).double()
PAIRS = TensorDataset(X, Y)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


class Augmented(Dataset):
    """Adds noise that a function draws."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return X[index] + self.draw(), Y[index]


class Held:
    """A transform with a generator of its own."""

    def __init__(self, generator):
        self.generator = generator

    def __call__(self):
        return float(self.generator.random())


class Stream(IterableDataset):
    def __init__(self, generator):
        self.generator = generator

    def __iter__(self):
        order = torch.randperm(20, generator=self.generator).tolist()
        return ((X[i], Y[i]) for i in order[:11])


class Batches:
    """An iterable of the user's own, with a generator in its class."""

    rng = np.random.default_rng(0)

    def __iter__(self):
        for _ in range(3):
            chosen = self.rng.integers(20, size=4)
            yield X[chosen], Y[chosen]


GLOBAL = np.random.RandomState(0)


def drawn_from_a_global():
    return float(GLOBAL.rand())


def of_generator(generator):
    return lambda: float(torch.rand((), generator=generator))


def seeded():
    return torch.Generator().manual_seed(3)


def collate_with(generator):
    def collate(items):
        x, y = (torch.stack(part) for part in zip(*items, strict=True))
        return x + torch.rand((), generator=generator), y

    return collate


LOADERS = {
    "shuffled": lambda: DataLoader(PAIRS, 8, shuffle=True, drop_last=True),
    "a generator of its own": lambda: DataLoader(PAIRS, 8, shuffle=True, drop_last=True, generator=seeded()),
    "a sampler": lambda: DataLoader(PAIRS, 4, sampler=RandomSampler(PAIRS, num_samples=9, generator=seeded())),
    "weighted": lambda: DataLoader(PAIRS, 4, sampler=WeightedRandomSampler(X[:, 0].abs(), 9, generator=seeded())),
    "a sampler of batches": lambda: DataLoader(
        PAIRS, batch_sampler=BatchSampler(RandomSampler(PAIRS, num_samples=9, generator=seeded()), 4, True)
    ),
    "global noise of torch": lambda: DataLoader(Augmented(lambda: torch.rand(())), 5),
    "global noise of NumPy": lambda: DataLoader(Augmented(lambda: np.random.rand()), 5),  # noqa: NPY002
    "global noise of Python": lambda: DataLoader(Augmented(random.random), 5),
    "a closure": lambda: DataLoader(Augmented(of_generator(seeded())), 5),
    "a transform with NumPy": lambda: DataLoader(Augmented(Held(np.random.default_rng(0))), 5),
    "a transform with Python": lambda: DataLoader(Augmented(Held(random.Random(0))), 5),
    "a method": lambda: DataLoader(Augmented(random.Random(0).random), 5),
    "a generator in globals": lambda: DataLoader(Augmented(drawn_from_a_global), 5),
    "nested": lambda: DataLoader(ConcatDataset([Subset(Augmented(of_generator(seeded())), [0, 3, 5])] * 2), 4),
    "collation": lambda: DataLoader(PAIRS, 8, collate_fn=collate_with(seeded())),
    "a stream": lambda: DataLoader(Stream(seeded()), 4),
    "a class": Batches,
    "workers": lambda: DataLoader(Augmented(lambda: torch.rand(())), 5, num_workers=1, shuffle=True),
    "workers that persist": lambda: DataLoader(
        Augmented(lambda: torch.rand(())), 5, num_workers=1, shuffle=True, persistent_workers=True
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_that_draw(name):
    P = lg.NeuralCoupling(network(), F.mse_loss, LOADERS[name]())
    v, w = torch.randn(2, P.num_nodes).double()
    first = P @ v
    torch.rand(3), np.random.rand(2), random.random()  # noqa: NPY002
    close(P @ v, first)
    assert float(w @ first) == pytest.approx(float((P.T @ w) @ v), rel=1e-9)
    if "workers" not in name:
        assert len(P.verify(1e-9)) == 2
        close(P.to_graph() @ v, first)
        close(P.in_strength(), P @ torch.ones_like(v))


@pytest.mark.parametrize("name", [name for name in LOADERS if "workers" not in name])
def test_streams_of_random_numbers_are_left_as_they_were(name):
    """The batches that the loader gives the user are those that it would give without P."""

    def read(couple):
        loader = LOADERS[name]()
        states = GLOBAL.get_state(), Batches.rng.bit_generator.state
        for seed in (torch.manual_seed, random.seed, np.random.seed):
            seed(7)
        if couple:
            P = lg.NeuralCoupling(network(), F.mse_loss, loader)
            torch.manual_seed(7)
            P.gradient(), P.num_edges
        found = [x for x, _ in loader]
        GLOBAL.set_state(states[0])
        Batches.rng.bit_generator.state = states[1]
        return torch.cat(found)

    close(read(couple=True), read(couple=False))


def test_generators_come_back_after_an_error():
    loader = DataLoader(PAIRS, 8, shuffle=True, generator=seeded())
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("a fault of the loss")
        return F.mse_loss(outputs, targets)

    P = lg.NeuralCoupling(network(), loss, loader)
    before, randomness = loader.generator.get_state(), torch.get_rng_state()
    try:
        P.gradient()
    except KeyError as error:  # whose traceback still holds the reading
        assert torch.equal(loader.generator.get_state(), before)
        assert torch.equal(torch.get_rng_state(), randomness)
        del error
    close(P.gradient(), lg.NeuralCoupling(network(), loss, loader).gradient())


def test_models_that_draw_from_numpy_and_python():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            h = torch.tanh(self.first(x)) * np.random.rand()  # noqa: NPY002
            return self.last(h) if random.random() < 2 else h

    P = lg.NeuralCoupling(Dropped().double(), F.mse_loss, [(X[:8], Y[:8]), (X[8:], Y[8:])])
    first = P.gradient()
    np.random.rand(), random.random()  # noqa: NPY002
    close(P.gradient(), first)
    assert len(P.verify(1e-9)) == 2


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_models_and_losses_with_generators_of_their_own(kind):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.generator = nn.Linear(5, 4), nn.Linear(4, 3), seeded()

        def forward(self, x):
            return self.last(torch.tanh(self.first(x)) + torch.rand(4, generator=self.generator))

    model, draw = Noisy().double(), of_generator(seeded())

    def loss(outputs, targets):
        return F.mse_loss(outputs, targets + draw())

    before = model.generator.get_state()
    P = lg.NeuralCoupling(model, loss, [(X[:8], Y[:8]), (X[8:], Y[8:])], kind=kind)
    first = P.gradient()
    model.generator.manual_seed(9), draw()
    close(P.gradient(), first)
    assert P.num_edges == 60
    if kind == "signed":
        assert len(P.verify(1e-9)) == 2
    model.generator.set_state(before)
    lg.NeuralCoupling(model, loss, (X, Y), kind=kind).gradient()
    assert torch.equal(model.generator.get_state(), before)


def test_batches_of_graphs():
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader as Graphs
    from torch_geometric.nn import GCNConv

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = GCNConv(5, 4), GCNConv(4, 3)

        def forward(self, graph):
            return self.last(torch.tanh(self.first(graph.x, graph.edge_index)), graph.edge_index)

    def collated(loader):
        return [(graph, graph.y) for graph in loader]

    torch.manual_seed(0)
    sizes = (3, 5, 4, 2)
    graphs = [Data(x=torch.randn(n, 5), edge_index=torch.randint(n, (2, 9)), y=torch.randint(3, (n,))) for n in sizes]
    model = Net()
    whole = lg.NeuralCoupling(model, F.cross_entropy, collated(Graphs(graphs, 4))[0]).gradient()
    data = collated(Graphs(graphs, 2))
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    close(P.gradient(), whole, 1e-5)
    data[1][0].x.data.mul_(2)
    with pytest.raises(DataError, match="batch 1 of the data"):
        P.gradient()


# what cannot be put back ---------------------------------------------------------------------------


def from_the_system():
    return int.from_bytes(os.urandom(4)) / 2**32


class Continued:
    """Goes on where it stopped."""

    def __init__(self):
        self.start = 0

    def __iter__(self):
        for _ in range(3):
            yield X[self.start : self.start + 4], Y[self.start : self.start + 4]
            self.start = (self.start + 4) % 16


class Shorter:
    """Has one batch less every time."""

    def __init__(self, step):
        self.number, self.step = 5, step

    def __iter__(self):
        self.number += self.step
        return iter([(X[:4], Y[:4])] * self.number)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataLoader(Augmented(from_the_system), 5), r"batch 0 of the data .* list\(loader\)"),
        (lambda: DataLoader(Augmented(lambda: time.perf_counter()), 5), "batch 0 of the data"),
        (lambda: DataLoader(Augmented(lambda: random.SystemRandom().random()), 5), "batch 0 of the data"),
        (Continued, "batch 0 of the data"),
        (lambda: Shorter(-1), "the data had 3 batches, and now have 2"),
        (lambda: Shorter(+1), "the data had 7 batches, and now have 8"),
    ],
)
def test_data_that_differ_are_refused(make, message):
    def products():
        P = lg.NeuralCoupling(network(), F.mse_loss, make())
        P.gradient()
        P.gradient()

    with pytest.raises(DataError, match=message):
        products()


def test_verify_and_the_structure_read_the_same_data():
    for ask in (lambda P: P.verify(), lambda P: P.num_edges, lambda P: P.to_graph()):
        P = lg.NeuralCoupling(network(), F.mse_loss, DataLoader(Augmented(from_the_system), 5))
        with pytest.raises(DataError, match="batch 0 of the data"):
            ask(P)


CHANGES = {
    "in place": lambda x, y: x.mul_(2),
    "one number": lambda x, y: x[3].view(-1)[1].add_(1e-9),
    "through data": lambda x, y: x.data.clamp_(-0.1, 0.1),
    "targets": lambda x, y: y.data[1:2].neg_(),
    "samples that change places": lambda x, y: x.data.copy_(x.data.flip(0)),
    "through NumPy": lambda x, y: np.add(x.numpy(), 1, out=x.numpy()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("batched", [False, True])
def test_data_changed_behind(change, batched):
    x, y = X.clone(), Y.clone()
    P = lg.NeuralCoupling(network(), F.mse_loss, [(x[:8], y[:8]), (x[8:], y[8:])] if batched else (x, y))
    first = P.gradient()
    kept = x.clone(), y.clone()
    CHANGES[change](x, y)
    for product in (P.gradient, P.in_strength, P.out_strength, lambda: P.total(first), lambda: P @ first, P.verify):
        with pytest.raises(DataError, match="batch 0 of the data"):
            product()
    x.data.copy_(kept[0]), y.data.copy_(kept[1])
    if batched or change not in ("in place", "one number"):  # which the pass itself notices
        close(P.gradient(), first)


@pytest.mark.parametrize("change", [lambda d: d.append(d[0]), list.pop, list.reverse])
def test_a_list_that_is_changed(change):
    data = [(X[:8], Y[:8]), (X[8:], Y[8:])]
    P = lg.NeuralCoupling(network(), F.mse_loss, data)
    P.gradient()
    change(data)
    with pytest.raises(DataError, match=r"of the data|the data had 2 batches"):
        P.gradient()


def test_a_model_that_writes_into_its_inputs():
    class Rectified(nn.Module):
        def __init__(self, write):
            super().__init__()
            self.write, self.last = write, nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))

        def forward(self, x):
            return self.last(self.write(x))

    def data():
        return [(X[:8].clone(), Y[:8]), (X[8:].clone(), Y[8:])]

    P = lg.NeuralCoupling(Rectified(torch.relu_).double(), F.mse_loss, data())
    assert len(P.verify(1e-9)) == 2  # what is written again is the same
    P = lg.NeuralCoupling(Rectified(lambda x: x.mul_(2)).double(), F.mse_loss, data())
    with pytest.raises(DataError, match="batch 0 of the data"):
        P.gradient()
    loader = DataLoader(PAIRS, 8)
    P = lg.NeuralCoupling(Rectified(lambda x: x.mul_(2)).double(), F.mse_loss, loader)
    assert len(P.verify(1e-9)) == 2  # and a loader makes new ones


def test_inputs_of_other_classes_are_compared_too():
    class Graph:
        __slots__ = ("parts",)

        def __init__(self, x):
            self.parts = {"x": x}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(5, 3)

        def forward(self, graph):
            return self.last(graph.parts["x"])

    x = X.clone()
    P = lg.NeuralCoupling(Net().double(), F.mse_loss, (Graph(x), Y))
    P.gradient()
    x.data.mul_(2)
    with pytest.raises(DataError, match="batch 0 of the data"):
        P.gradient()


# checksums -----------------------------------------------------------------------------------------

TENSORS = {
    "double": torch.randn(30, 40).double(),
    "half": torch.randn(7, 3).half(),
    "bfloat16": torch.randn(9).bfloat16(),
    "bytes": torch.arange(255, dtype=torch.uint8),
    "truth values": torch.rand(37) > 0.5,
    "complex": torch.randn(5, 5, dtype=torch.cfloat),
    "large": torch.randn(120, 121),
    "channels last": torch.randn(2, 8, 5, 5).to(memory_format=torch.channels_last),
    "a slice": torch.randn(20, 20)[1::2, 3:],
    "transposed": torch.randn(20, 30).mT,
    "expanded": torch.randn(1, 6).expand(5, 6),
    "conjugated": torch.randn(5, 5, dtype=torch.cdouble).conj(),
    "sparse": torch.eye(6).to_sparse(),
    "a number": torch.tensor(3.0),
    "float8": torch.randn(8).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("name", TENSORS)
def test_checksums_see_every_bit(name):
    t = TENSORS[name]
    (layout, (before,)), (again, (same,)) = digest([t]), digest([t.clone()])
    assert (layout, int(before)) == (again, int(same))
    dense = t.to_dense().resolve_conj().clone().contiguous()
    before = int(digest([dense])[1][0])
    numbers = (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1)
    numbers.view(torch.uint8)[-1] ^= 1
    assert int(digest([dense])[1][0]) != before


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_checksums_of_compressed_tensors():
    t = torch.eye(6)
    sums = {int(digest(s.to_sparse_csr())[1][0]) for s in (t, t * 2, t.flip(0), t.clone())}
    assert len(sums) == 3


@pytest.mark.parametrize("shape", [(6, 8), (64, 4093), (512, 512)])
def test_checksums_see_places(shape):
    t = torch.randn(shape)

    def checksum(t):
        return int(digest(t)[1][0])

    for other in (t.flip(0), t.flip(1), t[torch.randperm(len(t))], t.mT.contiguous().view(shape), t.roll(1, 0)):
        assert checksum(other) != checksum(t)
    rows = t.clone()
    rows[[0, 1]] = rows[[1, 0]]
    a, b = (sketch(pieces_of(s)) for s in (t, rows))
    assert not torch.equal(a, b) or shape[1] == 4093  # rows as long as a sketch: the only ones that may change places
