"""Several processes with a shard each give what one process gives with all the data."""

import datetime

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from tests.cases import CASES

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")

SHARDS = {"two": [4, 3], "three_unequal": [1, 5, 1], "first_empty": [0, 7], "one_empty": [4, 0, 3]}
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
