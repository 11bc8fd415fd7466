"""Several processes with a shard each give what one process gives with all the data."""

import copy
import datetime
import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import UnsupportedOperationError
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
        "vectors": torch.stack([P.in_strength(), P.out_strength(), P.gradient(), P.drive()]),
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
    """The wrapper for data-parallel training is seen through, and parameters that it shards are refused by name."""
    model, loss, (x, y) = CASES["mlp"].make(samples=7)
    mine = slice(rank * 7 // world, (rank + 1) * 7 // world)
    found = lg.NeuralCoupling(nn.parallel.DistributedDataParallel(model), loss, (x[mine], y[mine])).in_strength()
    sharded = fully_shard(copy.deepcopy(model), mesh=init_device_mesh("cpu", (world,)))
    with pytest.raises(UnsupportedOperationError, match=r"'0\.weight' is sharded over processes"):
        lg.NeuralCoupling(sharded, loss, (x, y))
    return found


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
        torch.save(found | {"wrapped": of_wrapped(rank, world)}, f"{folder}/{rank}.pt")
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
    for of_rank in of_ranks:
        torch.testing.assert_close(of_rank.pop("wrapped"), whole)
        for of_shards, found in of_rank.items():
            for kind in KINDS:
                check(found[kind], expected[kind], f"{kind}, {of_shards}")


def check(found, expected, where):
    assert found["synapses"] == expected["synapses"], where
    assert found["beta_eff"] == pytest.approx(expected["beta_eff"], rel=1e-9), where
    for name in ("vectors", "products"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-12, msg=f"{name}, {where}")
