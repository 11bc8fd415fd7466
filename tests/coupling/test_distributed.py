"""Several processes with a shard each give what one process gives with all the data."""

import copy
import datetime

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
        "synapses": tuple(P.synapses),
        "vectors": torch.stack([P.in_strength(), P.out_strength(), P.gradient(), P.drive()]),
        "products": torch.cat([P @ v, P.T @ v]),
        "beta_eff": capacitance.beta_eff,
    }


def process(rank, sizes, address, folder, as_pair):
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=len(sizes), timeout=timeout)
    try:
        _, _, (x, y) = CASES["residual_batch_norm"].make(samples=7)
        first = sum(sizes[:rank])
        x, y = (t[first : first + sizes[rank]] for t in (x, y))
        data = (x, y) if as_pair else DataLoader(TensorDataset(x, y), batch_size=2)
        torch.save({kind: results(data, kind) for kind in KINDS}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("as_pair", [False, True], ids=["loader", "pair"])
@pytest.mark.parametrize("shards", SHARDS)
def test_shards_equal_the_whole(shards, as_pair, tmp_path):
    sizes = SHARDS[shards]
    _, _, whole = CASES["residual_batch_norm"].make(samples=7)
    expected = {kind: results(whole, kind) for kind in KINDS}
    mp.spawn(process, (sizes, f"file://{tmp_path}/meet", str(tmp_path), as_pair), nprocs=len(sizes))
    for rank in range(len(sizes)):
        with torch.serialization.safe_globals([type(expected["signed"]["synapses"][0])]):
            found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for kind in KINDS:
            assert found[kind]["synapses"] == expected[kind]["synapses"]
            assert found[kind]["beta_eff"] == pytest.approx(expected[kind]["beta_eff"], rel=1e-9)
            for name in ("vectors", "products"):
                torch.testing.assert_close(found[kind][name], expected[kind][name], rtol=1e-9, atol=1e-12)


def wrapped(rank, address, folder):
    """The wrapper for data-parallel training is seen through, and parameters that it shards are refused by name."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    try:
        model, loss, (x, y) = CASES["mlp"].make(samples=7)
        mine = slice(0, 3) if rank else slice(3, 7)
        parallel = nn.parallel.DistributedDataParallel(model)
        found = lg.NeuralCoupling(parallel, loss, (x[mine], y[mine])).in_strength()
        torch.save(found, f"{folder}/{rank}.pt")
        sharded = fully_shard(copy.deepcopy(model), mesh=init_device_mesh("cpu", (2,)))
        with pytest.raises(UnsupportedOperationError, match=r"'0\.weight' is sharded over processes"):
            lg.NeuralCoupling(sharded, loss, (x, y))
    finally:
        dist.destroy_process_group()


def test_data_parallel_and_sharded_modules(tmp_path):
    model, loss, data = CASES["mlp"].make(samples=7)
    expected = lg.NeuralCoupling(model, loss, data).in_strength()
    mp.spawn(wrapped, (f"file://{tmp_path}/meet", str(tmp_path)), nprocs=2)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected)
