"""Several processes with a shard each give what one process gives with all the data."""

import datetime
import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import CoverageWarning, NoSynapseError
from tests.cases import CASES

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

SHARDS = {"two": [4, 3], "first_empty": [0, 7], "three_unequal_one_empty": [1, 0, 6]}
KINDS = ["signed", "magnitude", "flow", "energy"]


def results(data, kind):
    model, loss, _ = CASES["residual_batch_norm"].make()
    P = lg.NeuralCoupling(model, loss, data, kind=kind)
    v = torch.linspace(-1, 1, 2 * P.num_nodes, dtype=torch.float64).view(-1, 2)
    capacitance = lg.capacitance(P)
    return {
        "synapses": [[synapse.name, *synapse.shape] for synapse in P.synapses],
        "vectors": torch.stack([P.in_strength(), P.out_strength(), P.gradient(), P.drive(), *P.gradient_and_drive()]),
        "products": torch.cat([P @ v, P.T @ v]),
        "beta_eff": capacitance.beta_eff,
    }


def of_shard(sizes, rank, as_pair):
    _, _, (x, y) = CASES["residual_batch_norm"].make(samples=7)
    first = sum(sizes[:rank])
    x, y = (t[first : first + sizes[rank]] for t in (x, y))
    data = (x, y) if as_pair else DataLoader(TensorDataset(x, y), batch_size=2)
    return {kind: results(data, kind) for kind in KINDS}


def of_wrapped(rank, world):
    """The wrapper for data-parallel training is seen through."""
    model, loss, (x, y) = CASES["mlp"].make(samples=7)
    mine = slice(rank * 7 // world, (rank + 1) * 7 // world)
    return lg.NeuralCoupling(nn.parallel.DistributedDataParallel(model), loss, (x[mine], y[mine])).in_strength()


def shard(rank, world):
    """Three batches of samples of this process's own."""
    torch.manual_seed(rank)
    return [(torch.randn(n, 5).double(), torch.randn(n, 3).double()) for n in (3, 2, 4)]


class Failing:
    """Batches that cannot be read to the end, or at all."""

    def __init__(self, batches, at):
        self.batches, self.at = batches, at

    def __iter__(self):
        yield from self.batches[: self.at]
        raise OSError("the disk is gone")


class Growing:
    """Other data in every reading."""

    def __init__(self, batches):
        self.batches, self.times = batches, 1.0

    def __iter__(self):
        self.times *= 2
        return ((x * self.times, y) for x, y in self.batches)


class Deviations(nn.Module):
    """Has no second derivative where all hidden units of a sample are off."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.relu(self.a(x) + x[:, :1])
        return self.b(torch.tanh(h + h.std(1, keepdim=True)))


class Second(nn.Module):
    """Uses its second layer for large inputs only."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x):
        return self.a(x) + self.b(x) if x.abs().max() > 50 else self.a(x)


class Gated(nn.Module):
    """A layer enters an operation without a rule where inputs are large, and another one everywhere."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.gate = nn.Parameter(torch.randn(2, 4))

    def forward(self, x):
        h = torch.tanh(self.a(x)) * self.gate.exp().sum(0)
        h = h @ (torch.softmax(self.b.weight, 0) if x.abs().max() > 50 else self.b.weight)
        return self.c(torch.tanh(h))


def of_gated(batches):
    """What is left out in one process is left out in all."""
    with pytest.warns(CoverageWarning, match="'gate'"):
        P = lg.NeuralCoupling(Gated().double(), nn.functional.mse_loss, batches)
    reasons = P.coverage().set_index("name")["reason"]
    named = sorted(reasons.index[reasons.str.startswith("left out")])
    if dist.is_initialized():
        with pytest.warns(CoverageWarning, match="'gate'"):
            sharded = lg.NeuralCoupling(fully_shard(Gated().double()), nn.functional.mse_loss, batches)
        assert [s.name for s in sharded.synapses] == [s.name for s in P.synapses]
        torch.testing.assert_close(sharded.out_strength(), P.out_strength())
    model = Gated().double()
    for layer in (model.a, model.c):
        layer.requires_grad_(False)
    with pytest.raises(NoSynapseError, match="no weight on which the loss depends can be a node"):
        lg.NeuralCoupling(model, nn.functional.mse_loss, batches)
    return {"synapses": [s.name for s in P.synapses], "left out": named, "strengths": P.in_strength()}


def spoiled(batches, last, value):
    """One number of the last batch of the last process is another."""
    if last:
        batches[2][0][1, 0] = value
    return batches


def failures(rank, world):
    """What goes wrong in the last process alone, by name; each gives the products to ask for."""
    last = rank == world - 1
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()

    def couple(data, model=model, loss=nn.functional.mse_loss, **options):
        return lg.NeuralCoupling(model, loss, data, **options)

    def products(P):
        v = torch.ones(P.num_nodes, dtype=torch.float64)
        return {
            "P v": lambda: P @ v,
            "a block": lambda: P @ torch.stack([v, v], 1),
            "gradient": P.gradient,
            "drive": P.drive,
            "in_strength": P.in_strength,
            "out_strength": P.out_strength,
            "total": lambda: P.total(v),
            "capacitance": lambda: lg.capacitance(P),
            "graph": P.to_graph,
            "verify": P.verify,
        }

    def only(P, *names):
        return {name: product for name, product in products(P).items() if name in names}

    def none_in_last(outputs, targets):
        value = nn.functional.mse_loss(outputs, targets)
        return value * float("nan") if last and len(outputs) == 4 else value

    def changed():
        P = couple(shard(rank, world))
        if last:
            model[2].bias.data.add_(1)
        return products(P) | {"put back": lambda: model[2].bias.data.sub_(1) if last else None}

    def unreached():
        torch.manual_seed(0)
        return products(couple(spoiled(shard(rank, world), last, 60.0), Second().double(), include=["a", "b"]))

    def without_second_derivative():
        torch.manual_seed(0)
        net = Deviations().double()
        nn.init.constant_(net.a.bias, 2.0)
        batches = [(x.clamp(-0.2, 0.2), y) for x, y in shard(rank, world)]
        return only(couple(spoiled(batches, last, -50.0), net), "P v", "out_strength")

    batches = shard(rank, world)
    nothing = torch.empty(0, 5).double(), torch.empty(0, 3).double()
    return {
        "nan": lambda: products(couple(spoiled(shard(rank, world), last, float("nan")))),
        "nan, magnitude": lambda: only(
            couple(spoiled(shard(rank, world), last, float("nan")), kind="magnitude"),
            "P v",
            "in_strength",
            "capacitance",
        ),
        "nan in a pair": lambda: couple(spoiled(shard(rank, world), last, float("nan"))[2]),
        "no finite loss": lambda: products(couple(batches, loss=none_in_last)),
        "no scalar": lambda: couple(batches, loss=(lambda o, t: o) if last else nn.functional.mse_loss),
        "an iterator": lambda: couple(iter(batches) if last else batches),
        "no pairs": lambda: couple([x for x, _ in batches] if last else batches),
        "not certain": lambda: couple([((x,), y[:1]) for x, y in batches] if last else batches, loss=of_first),
        "no disk": lambda: products(couple(Failing(batches, at=0) if last else batches)),
        "no disk later": lambda: products(couple(Failing(batches, at=2) if last else batches)),
        "other data": lambda: products(couple(Growing(batches) if last else batches)),
        "weights": changed,
        "a synapse": unreached,
        "second derivatives": without_second_derivative,
        "no data": lambda: only(couple([nothing] if last else batches), "graph", "P v"),
    }


def of_first(outputs, targets):
    return (outputs - targets[:1]).square().mean()


def outcomes(rank, world):
    """What every process gets by every failure, and from a coupling that is whole, after each."""
    found = {}
    for name, fail in failures(rank, world).items():
        asked = attempt(fail)
        results = {"": asked} if isinstance(asked, list) else {key: attempt(ask) for key, ask in asked.items()}
        found[name] = results
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        found[name + ", then"] = lg.NeuralCoupling(model, nn.functional.mse_loss, shard(rank, world)).in_strength()
    return found


def attempt(work):
    try:
        result = work()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return result if isinstance(result, dict) else "done"


def process(rank, world, address, folder):
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world, timeout=timeout)
    try:
        found = {
            f"{name}, pair: {as_pair}": of_shard(sizes, rank, as_pair)
            for name, sizes in SHARDS.items()
            if len(sizes) == world
            for as_pair in (False, True)
        }
        of_all = {
            "wrapped": of_wrapped(rank, world),
            "failures": outcomes(rank, world),
            "gated": of_gated([spoiled(shard(rank, world), rank == world - 1, 60.0)[2]]),
        }
        torch.save(found | of_all, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("world", sorted({len(sizes) for sizes in SHARDS.values()}))
def test_processes_find_what_one_finds(world, tmp_path):
    # All of a group size at once, by processes that are forked from one: importing takes longer than what they do.
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    arguments = world, f"file://{tmp_path}/meet", str(tmp_path)
    mp.start_processes(process, arguments, nprocs=world, start_method="forkserver")
    of_ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world)]
    model, loss, data = CASES["mlp"].make(samples=7)
    whole = lg.NeuralCoupling(model, loss, data).in_strength()
    _, _, data = CASES["residual_batch_norm"].make(samples=7)
    expected = {kind: results(data, kind) for kind in KINDS}
    check_failures([of_rank.pop("failures") for of_rank in of_ranks])
    gated = of_gated([spoiled(shard(rank, world), rank == world - 1, 60.0)[2] for rank in reversed(range(world))])
    for of_rank in of_ranks:
        torch.testing.assert_close(of_rank.pop("wrapped"), whole)
        found = of_rank.pop("gated")
        torch.testing.assert_close(found.pop("strengths"), gated["strengths"])
        assert found == {"synapses": ["a.weight", "c.weight"], "left out": ["b.weight", "gate"]}
        for of_shards, found in of_rank.items():
            for kind in KINDS:
                check(found[kind], expected[kind], f"{kind}, {of_shards}")


def check(found, expected, where):
    assert found["synapses"] == expected["synapses"], where
    assert found["beta_eff"] == pytest.approx(expected["beta_eff"], rel=1e-9), where
    for name in ("vectors", "products"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-12, msg=f"{name}, {where}")


FAILURES = {
    "nan": ("NonFiniteError", "in batch 2 of the data, "),
    "nan, magnitude": ("NonFiniteError", "in batch 2 of the data, NaN or infinite numbers first enter call 0 (linear "),
    "nan in a pair": ("NonFiniteError", "NaN or infinite numbers first enter call 0"),
    "no finite loss": ("NonFiniteError", "in batch 2 of the data, the loss is nan"),
    "no scalar": ("LossError", "loss_fn must return a scalar"),
    "an iterator": ("DataError", "data is an iterator"),
    "no pairs": ("DataError", "item 0 of data is a Tensor"),
    "not certain": ("DataError", "cannot tell the number of samples"),
    "no disk": ("OSError", "the disk is gone"),
    "no disk later": ("OSError", "the disk is gone"),
    "other data": ("DataError", "batch 0 of the data is not what it was"),
    "weights": ("StaleCouplingError", "'2.bias' has changed since this coupling was made"),
    "a synapse": ("UnsupportedOperationError", "'b.weight' is reached in a later batch"),
    "second derivatives": ("NonFiniteError", "the transposed product Pᵀ v is not finite"),
    "no data": ("DataError", "this process has no data to read the structure of P from"),
}
WHOLE = {("second derivatives", "P v"), ("no data", "P v"), ("weights", "put back")}
"""What is there all the same."""


def check_failures(of_ranks):
    """Every process gets the error of the last one, which it names, and later products are those of all."""
    for name, (kind, message) in FAILURES.items():
        for rank, found in enumerate(of_ranks):
            torch.testing.assert_close(found[name + ", then"], of_ranks[0][name + ", then"])
            for asked, result in found[name].items():
                where = f"{name}, {asked}, process {rank}: {result}"
                if (name, asked) in WHOLE:
                    assert result == "done", where
                elif kind in ("OSError", "RuntimeError") and rank == len(of_ranks) - 1:  # its own, as it was raised
                    assert result[0] == kind, where
                    assert result[1].startswith(message), where
                else:
                    assert result[0] == ("RuntimeError" if kind == "OSError" else kind), where
                    assert message in result[1], where
                    assert f"in process {len(of_ranks) - 1} of {len(of_ranks)}: " in result[1], where
