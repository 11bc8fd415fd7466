"""Models sharded over processes by ``fully_shard`` have the P of the whole model, on every process."""

import datetime
import multiprocessing
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import linegraph as lg
from linegraph.coupling.model.shards import Shards
from linegraph.coupling.verification.dispute import Dispute
from linegraph.errors import DataError, IdentityError, NonFiniteError, StaleCouplingError, UnsupportedOperationError
from tests.comparison import close

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

KINDS = ["signed", "magnitude", "flow", "energy"]
SPLITS = {2: [[4, 3], [0, 7]], 3: [[1, 0, 6]]}
"""Numbers of samples of two and of three processes."""


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.up, self.down = nn.Linear(width, 6), nn.Linear(6, width)

    def forward(self, x):
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Network(nn.Module):
    """Blocks, a frozen layer that is part of the path, and a head tied to the first layer."""

    def __init__(self, blocks=2):
        super().__init__()
        self.embed = nn.Linear(5, 4)
        self.blocks = nn.ModuleList(Block(4) for _ in range(blocks))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = torch.tanh(self.embed(x))
        for block in self.blocks:
            h = block(h)
        h = self.frozen(h)
        return self.head(F.linear(torch.sigmoid(F.linear(h, self.embed.weight.t())), self.embed.weight))


def network(**options):
    torch.manual_seed(0)
    model = Network(**options).double()
    for block in model.blocks:
        nn.init.uniform_(block.norm.running_var, 0.5, 2)
        nn.init.uniform_(block.norm.weight, 0.5, 2)
    return model


def samples(n=7):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (5, 3))


def of_process(sizes, rank, *, as_pair):
    first = sum(sizes[:rank])
    x, y = (t[first : first + sizes[rank]] for t in samples())
    return (x, y) if as_pair else list(zip(x.split(2), y.split(2), strict=True)) if len(x) else [(x, y)]


# ways to shard ---------------------------------------------------------------------------------------


def by_block(model, **options):
    for block in model.blocks:
        fully_shard(block, **options)
    return fully_shard(model, **options)


def by_layer(model, **options):
    for block in model.blocks:
        fully_shard(block.up, **options)
        fully_shard(block.down, **options)
    fully_shard(model.frozen, **options)
    return by_block(model, **options)


def by_group(model, **options):
    fully_shard(list(model.blocks), **options)
    return fully_shard(model, **options)


def on_mesh(model):
    """Replicas of a sharded model."""
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (1, world) if world == 3 else (world, 1), mesh_dim_names=("replicate", "shard"))
    return by_block(model, mesh=mesh)


def along_columns(model):
    """Along the last dimension, where torch can: where it divides evenly."""
    world = dist.get_world_size()
    return by_block(model, shard_placement_fn=lambda p: Shard(p.ndim - 1 if p.shape[-1] % world == 0 else 0))


def blocks_only(model):
    """The other parameters are whole in every process."""
    for block in model.blocks:
        fully_shard(block)
    return model


WAYS = {
    "whole": fully_shard,
    "by block": by_block,
    "by layer, kept": lambda model: by_layer(model, reshard_after_forward=False),
    "by group": by_group,
    "on a mesh": on_mesh,
    "along columns": along_columns,
    "blocks only": blocks_only,
}


def results(model, data, kind, **options):
    probes = 4 if kind == "energy" else None
    P = lg.NeuralCoupling(model, F.mse_loss, data, kind=kind, probes=probes, **options)
    v = torch.linspace(-1, 1, 2 * P.num_nodes, dtype=P.dtype).view(-1, 2)
    columns = {"P V": P @ v, "Pᵀ V": P.T @ v}
    vectors = {"P v": P @ v[:, 0], "gradient": P.gradient(), "drive": P.drive(), "weights": P.weights()}
    found = {"in": P.in_strength(), "out": P.out_strength(), "β_eff": torch.tensor(lg.capacitance(P).beta_eff)}
    return columns | vectors | found


def whole(kind, **options):
    return results(network(), samples(), kind, **options)


# what the processes do -------------------------------------------------------------------------------


def check(found, expected, where, rtol=1e-9):
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=rtol, atol=rtol), f"{where}, {name}: {found[name]}, {value}"


def every_kind(rank, world, expected):
    for kind in KINDS:
        for sizes in SPLITS[world]:
            data = of_process(sizes, rank, as_pair=all(sizes))
            check(results(by_block(network()), data, kind), expected[kind], f"{kind}, {sizes}")


def every_way(rank, world, expected):
    for name, shard in WAYS.items():
        data = of_process(SPLITS[world][0], rank, as_pair=True)
        check(results(shard(network()), data, "signed"), expected["signed"], name)


class Routed(nn.Module):
    """Uses another layer for large inputs."""

    def __init__(self):
        super().__init__()
        self.small, self.large, self.head = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.large(x) if x.abs().max() > 50 else self.small(x)))


def other_layers(rank, world, expected):
    """Processes may run different layers, where a training step of FSDP would wait for ever."""

    def routed():
        torch.manual_seed(0)
        return Routed().double()

    x, y = samples(2 * world)
    x[-1] *= 1000
    batches = list(zip(x.split(2), y.split(2), strict=True))
    sharded, plain = routed(), routed()
    for layer in (sharded.small, sharded.large, sharded.head):
        fully_shard(layer)
    P = lg.NeuralCoupling(fully_shard(sharded), F.mse_loss, batches[rank])
    loss = sum(F.mse_loss(plain(inputs), targets) for inputs, targets in batches) / world
    expected = torch.autograd.grad(loss, [plain.small.weight, plain.large.weight, plain.head.weight])
    expected = torch.cat([g.flatten() for g in expected])
    close(P.gradient(), expected)
    close(P @ P.weights() + P.drive(), -expected)


def other_methods(rank, world, expected):
    """Edges, entries, checks and roles are those of the whole model; and processes without data get a named error."""
    model, data = by_block(network()), of_process([4, 3, 0][:world], rank, as_pair=True)
    P = lg.NeuralCoupling(model, F.mse_loss, data)
    assert [[s.name, *s.shape] for s in P.synapses] == expected["synapses"]
    assert (P.coverage()["role"] == expected["roles"]).all()
    assert (P.verify()["difference"] < 1e-12).all()
    if world == 2:
        assert P.num_edges == expected["graph"].num_edges
        close(P.to_graph().weight, expected["graph"].weight)
        assert lg.line_graph(P).num_edges == expected["graph"].num_edges
        close(lg.capacitance(P.to_graph()).beta_eff, lg.capacitance(expected["graph"]).beta_eff)
    else:
        with pytest.raises(DataError, match="process 2 of 3: this process has no data to read the structure"):
            P.to_graph()
        with pytest.raises(DataError, match="process 2 of 3: this process has no data to read the structure"):
            _ = P.num_edges
    assert len(lg.diagnose(P)) == len(P.synapses)
    with torch.inference_mode():
        P = lg.NeuralCoupling(model, F.mse_loss, data)
        close(P.in_strength(), expected["signed"]["in"])
        close(P.weights(), expected["signed"]["weights"])
    undecided = pytest.raises(IdentityError, match="sharded over processes, and finite differences need whole copies")
    with patch.object(Dispute, "_is_rounding_of_sums", return_value=False), undecided:
        P.verify(tol=1e-300)


def training_goes_on(rank, world, expected):
    """Passes leave FSDP as it was, also between a forward pass and the next step, and see what a step changes."""
    x, y = of_process(SPLITS[world][-1], rank, as_pair=True)
    model = by_block(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.eval()(x)  # leaves the parameters of the root gathered
    P = lg.NeuralCoupling(model, F.mse_loss, (x, y))
    before = {name: type(p) for name, p in model.named_parameters()}
    with torch.no_grad():
        model(x)
    check({"in": P.in_strength()}, {"in": expected["signed"]["in"]}, "after a pass without a backward pass")
    assert {name: type(p) for name, p in model.named_parameters()} == before
    F.mse_loss(model(x), y).backward() if len(x) else (model(x).sum() * 0).backward()
    plain = network().eval()
    F.mse_loss(plain(x), y).backward() if len(x) else (plain(x).sum() * 0).backward()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        if q.grad is not None:
            dist.all_reduce(q.grad)
            close(p.grad.full_tensor(), q.grad / world)
    optimizer.step()
    for product in (P.in_strength, P.gradient, lambda: P @ torch.ones(P.num_nodes, dtype=P.dtype)):
        with pytest.raises(StaleCouplingError, match=r"'embed\.weight' has changed"):
            product()


def memory(rank, world, expected):
    """No weight is in memory between products, and during them those of three blocks at most, besides the root's."""
    model = by_block(network(blocks=8))
    peak = 0

    def spied(shards, unit, needed, gather=Shards._gather):
        nonlocal peak
        gather(shards, unit, needed)
        peak = max(peak, sum(s.untyped_storage().nbytes() for u in shards._numbers for s in u.stand_ins if s.ndim > 1))

    sizes = [p.numel() * p.element_size() for p in model.parameters() if p.ndim > 1]
    block = sum(p.numel() * p.element_size() for p in model.blocks[0].parameters() if p.ndim > 1)
    Shards._gather, original = spied, Shards._gather
    try:
        P = lg.NeuralCoupling(model, F.mse_loss, of_process(SPLITS[world][0], rank, as_pair=True))
        for product in (P.in_strength, P.out_strength, P.gradient, P.weights, lambda: lg.capacitance(P)):
            product()
            assert not any(p.untyped_storage().nbytes() for p in P.chosen.values())
        P._memory = None  # of vectors (n,)
        assert lg.capacitance(P).beta_eff
    finally:
        Shards._gather = original
    assert 0 < peak <= sum(sizes) - 8 * block + 3 * block < sum(sizes)


class Low(nn.Sequential):
    """A network in half precision with outputs in single precision."""

    def forward(self, x):
        return super().forward(x.bfloat16()).float()


def mixed_precision(rank, world, expected):
    def layers():
        torch.manual_seed(0)
        return nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)

    mine = tuple(t.float() for t in of_process(SPLITS[world][0], rank, as_pair=True))
    reference = results(Low(*layers()).bfloat16(), mine, "signed")
    model = nn.Sequential(*layers())
    half = {"param_dtype": torch.bfloat16}
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mp_policy=MixedPrecisionPolicy(**half))
    fully_shard(model, mp_policy=MixedPrecisionPolicy(**half, output_dtype=torch.float32))
    check(results(model, mine, "signed"), reference, "mixed precision", rtol=1e-2)


class Strict(nn.Module):
    """Refuses large inputs, between two blocks."""

    def forward(self, x):
        if x.abs().max() > 50:
            raise ValueError("too large")
        return x


class Failing(list):
    """Batches of which the second cannot be read."""

    def __iter__(self):
        yield self[0]
        raise OSError("the disk is gone")


def failures(rank, world, expected):
    """What fails in the last process alone raises its error in all of them, and the next product works."""
    last = rank == world - 1

    def batches(value):
        x, y = samples(9)
        x = torch.where((torch.arange(9) == 8)[:, None], value, x) if last else x
        return list(zip(x.split(3), y.split(3), strict=True))

    def shard(model):
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        return fully_shard(model)

    torch.manual_seed(0)
    model = shard(nn.Sequential(nn.Linear(5, 4), Strict(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).double())
    good = batches(1.0)
    first = lg.NeuralCoupling(model, F.mse_loss, good).in_strength()
    told = f"in process {world - 1} of {world}: "
    cases = [
        (batches(1e4), ValueError if last else RuntimeError, "too large"),
        (batches(float("nan")), NonFiniteError, told + "in batch 2 of the data, NaN"),
        (Failing(good) if last else good, OSError if last else RuntimeError, "the disk is gone"),
        ([x for x, _ in good] if last else good, DataError, told + "item 0"),
    ]
    for data, kind, message in cases:
        with pytest.raises(kind, match=message):
            lg.NeuralCoupling(model, F.mse_loss, data).out_strength()
        close(lg.NeuralCoupling(model, F.mse_loss, good).in_strength(), first)


def refusals(rank, world, expected):
    """Other ways to split parameters are refused by name, with what to do."""
    mesh = init_device_mesh("cpu", (world,))
    data = of_process(SPLITS[world][0], rank, as_pair=True)

    def layers():
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()

    parallel = parallelize_module(layers(), mesh, {"0": ColwiseParallel()})
    with pytest.raises(UnsupportedOperationError, match=r"'0\.weight' is sharded .* not by .*fully_shard"):
        lg.NeuralCoupling(parallel, F.mse_loss, data)
    plain = layers()
    plain[0].weight = nn.Parameter(distribute_tensor(plain[0].weight.detach(), mesh, [Shard(0)]))
    with pytest.raises(UnsupportedOperationError, match=r"'0\.weight' is sharded .* load a full state dict"):
        lg.NeuralCoupling(plain, F.mse_loss, data)
    flat = FullyShardedDataParallel(layers(), device_id=torch.device("cpu"))
    with pytest.raises(UnsupportedOperationError, match=r"' is sharded .* by FullyShardedDataParallel"):
        lg.NeuralCoupling(flat, F.mse_loss, data)
    with pytest.raises(UnsupportedOperationError, match=r"'0\.weight' is sharded .* reads whole weights"):
        lg.neuron_graph(fully_shard(layers()), data[0])
    both = init_device_mesh("cpu", (1, world), mesh_dim_names=("data", "tensor"))
    parallel = parallelize_module(layers(), both["tensor"], {"0": ColwiseParallel()})
    with pytest.raises(UnsupportedOperationError, match=r"'0.*tensor parallel"):
        lg.NeuralCoupling(fully_shard(parallel, mesh=both["data"]), F.mse_loss, data)


CHECKS = (
    every_kind,
    every_way,
    other_layers,
    other_methods,
    training_goes_on,
    memory,
    mixed_precision,
    failures,
    refusals,
)


def process(rank, world, address, folder, expected):
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world, timeout=timeout)
    try:
        for run in CHECKS:
            run(rank, world, expected)
            dist.barrier()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("world", SPLITS)
def test_processes_with_shards_of_a_model_find_what_one_with_all_of_it_finds(world, tmp_path):
    P = lg.NeuralCoupling(network(), F.mse_loss, samples())
    expected = {kind: whole(kind) for kind in KINDS} | {
        "synapses": [[s.name, *s.shape] for s in P.synapses],
        "roles": P.coverage()["role"].tolist(),
        "graph": P.to_graph(),
    }
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    mp.start_processes(
        process, (world, f"file://{tmp_path}/meet", str(tmp_path), expected), nprocs=world, start_method="forkserver"
    )
