"""Time and memory of metrics: on graphs of growing size against igraph, networkx and SciPy, and on networks.

python -m benchmarks.metrics [--limit 20] [--parts graphs networks resnet18 resnet50] [--device cuda] [--json FILE]

graphs    random directed weighted graphs, ten edges a node, given to all as edges
networks  line graphs of perceptrons of growing width: peers get the edges, linegraph the operator P; the time to list
          the edges is not counted for the peers
resnet18  Katz, PageRank, HITS on 3.9e10 edges that are never listed: products, time, memory in weight vectors
resnet50  diagnose

A peer that takes longer than the limit is not asked for anything larger ("gave up"); above 20 million edges, for
networkx 2 million, a graph is not given to it ("too large"). Ratios are peer / linegraph: above 1, linegraph is faster,
or adds less memory to that of the graph, which each holds in its own form.
On another device linegraph runs there and the peers on the host; memory is what torch allocates there.
On a machine with other load, set OMP_NUM_THREADS=1: threads that wait for each other make times depend on the load.
"""

import argparse
import ctypes
import gc
import os
import sys
import threading
import time
import warnings

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.sparse import eye_array
from scipy.sparse.linalg import bicgstab, svds
from torch import nn

import linegraph as lg
from benchmarks.networks import resnet18, resnet50
from benchmarks.page import save

MOST_EDGES = 20_000_000
MOST_FOR_PYTHON = 2_000_000
"""networkx takes about 1 kB an edge."""


def perceptron(width):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def images(batch, size, device, channels=3):
    return torch.randn(batch, channels, size, size, device=device), torch.randint(10, (batch,), device=device)


# peers -----------------------------------------------------------------------------------------------


def scipy_katz(matrix, alpha):
    ones = np.ones(matrix.shape[0])
    found, failed = bicgstab(eye_array(len(ones), format="csr") - alpha * matrix, ones, rtol=1e-10)
    assert not failed
    return found


def peers(G, alpha):
    """For each metric its peers: a name, and a function to time; graphs are made beforehand where that is possible."""
    matrix = G.to_scipy_sparse()
    asked = {"Katz": {"scipy": lambda: scipy_katz(matrix, alpha)}, "PageRank": {}, "HITS": {}}
    asked["HITS"]["scipy"] = lambda: svds(matrix, 1)
    if G.num_edges <= MOST_EDGES:
        graph = G.to_igraph()
        asked["PageRank"]["igraph"] = lambda: graph.pagerank(weights="weight")
        asked["HITS"]["igraph"] = lambda: (graph.hub_score(weights="weight"), graph.authority_score(weights="weight"))
    if G.num_edges <= MOST_FOR_PYTHON:
        import networkx as nx

        nodes = G.to_networkx()
        asked["Katz"]["networkx"] = lambda: nx.katz_centrality(nodes, alpha, max_iter=1000, weight="weight")
        asked["PageRank"]["networkx"] = lambda: nx.pagerank(nodes, tol=1e-10 / len(nodes), max_iter=1000)
        asked["HITS"]["networkx"] = lambda: nx.hits(nodes)
    return asked


OFFERED = {("Katz", "scipy"), ("Katz", "networkx"), ("PageRank", "igraph"), ("PageRank", "networkx")}
OFFERED |= {("HITS", peer) for peer in ("igraph", "networkx", "scipy")}


def mine(P, alpha):
    return {
        "Katz": lambda: lg.katz(P, alpha=alpha),
        "PageRank": lambda: lg.pagerank(P),
        "HITS": lambda: lg.hits(P),
    }


def compare(name, P, G, alpha, limit, given_up):
    """One row per metric: nodes, edges, seconds and memory of linegraph, ratios of each peer."""
    theirs = peers(G, alpha) if G is not None else {"Katz": {}, "PageRank": {}, "HITS": {}}
    rows = []
    for metric, work in mine(P, alpha).items():
        own, held = costs(work, P.device)
        row = {"graph": name, "nodes": P.num_nodes, "edges": P.num_edges, "metric": metric}
        row |= {"linegraph [s]": own, "linegraph [MB]": held / 1e6}
        for peer in ("igraph", "networkx", "scipy"):
            if (metric, peer) not in OFFERED:
                row[f"{peer} / linegraph"] = "-"
                continue
            if (metric, peer) in given_up or peer not in theirs[metric]:
                row[f"{peer} / linegraph"] = "gave up" if (metric, peer) in given_up else "too large"
                continue
            try:
                taken, most = costs(theirs[metric][peer], "cpu")
            except Exception as error:
                taken, most = float("inf"), float("nan")
                print(f"  {peer} {metric}: {type(error).__name__} {str(error)[:80]}")
            row[f"{peer} / linegraph"] = f"{taken / own:.3g}"
            if min(held, most) > 1e6:
                row[f"{peer} / linegraph"] += f" ({most / held:.2g} of memory)"
            if taken > limit:
                given_up.add((metric, peer))
        rows.append(row)
    return rows


def random_graphs(limit, device):
    rows, given_up = [], set()
    for n in (1_000, 10_000, 100_000, 1_000_000):
        generator = torch.Generator().manual_seed(0)
        index = torch.unique(torch.randint(n, (2, 10 * n), generator=generator), dim=1)
        weight = torch.rand(index.shape[1], generator=generator, dtype=torch.float64)
        G = lg.GraphCoupling(index, weight, num_nodes=n).to(device)
        alpha = 0.5 / lg.spectral_radius(G)
        rows += compare("random", G, G, alpha, limit, given_up)
        show(rows[-3:])
    return rows


def networks(limit, device):
    rows, given_up = [], set()
    for width in (32, 128, 256, 1024, 2048):
        torch.manual_seed(0)
        model, data = perceptron(width).to(device), images(64, 8, device, channels=1)
        P = lg.NeuralCoupling(model, F.cross_entropy, data, kind="magnitude")
        G = P.to_graph() if P.num_edges <= MOST_EDGES else None
        rows += compare(f"MLP 64-{width}-{width}-10", P, G, 1.0, limit, given_up)
        show(rows[-3:])
    return rows


class Counted(lg.Coupling):
    """A coupling that counts its products; both strengths count as one product each."""

    def __init__(self, P):
        self.inner, self.products = P, 0

    num_nodes = property(lambda self: self.inner.num_nodes)
    dtype = property(lambda self: self.inner.dtype)
    device = property(lambda self: self.inner.device)
    is_non_negative = property(lambda self: self.inner.is_non_negative)

    def absolute_total(self):
        return self.inner.absolute_total()

    def column_components(self):
        return self.inner.column_components()

    def in_strength(self):
        self.products += 1
        return self.inner.in_strength()

    def out_strength(self):
        self.products += 1
        return self.inner.out_strength()

    def _matmat(self, block):
        self.products += block.shape[1]
        return self.inner.matvec(block)

    def _rmatmat(self, block):
        self.products += block.shape[1]
        return self.inner.rmatvec(block)


def measured(P, metric, work):
    """Products, seconds, and the peak of memory beyond that of one product, in weight vectors."""
    counted = Counted(P)
    v = torch.ones(P.num_nodes, dtype=P.dtype, device=P.device)
    P.matvec(v)
    _, product, base = with_memory(lambda: P.matvec(v), P.device)
    _, taken, most = with_memory(lambda: work(counted), P.device)
    return {
        "metric": metric,
        "products": counted.products,
        "seconds": taken,
        "one product [s]": product,
        "memory [vectors]": max(0, most - base) / (P.num_nodes * v.element_size()),
    }


def resnet_18(_, device):
    torch.manual_seed(0)
    model, data = resnet18().eval().to(device), images(16, 32, device)
    P = lg.NeuralCoupling(model, F.cross_entropy, data, kind="magnitude")
    P.in_strength()
    print(f"ResNet-18, 16 images 3x32x32: {P.num_nodes:,} nodes, {P.num_edges:,} edges")
    works = {
        "Katz": lambda Q: lg.katz(Q, alpha=1.0),
        "PageRank": lg.pagerank,
        "HITS": lg.hits,
    }
    rows = []
    for name, work in works.items():
        rows.append(measured(P, name, work))
        show(rows[-1:])
    return rows


def resnet_50(_, device):
    torch.manual_seed(0)
    model, data = resnet50().eval().to(device), images(16, 64, device)
    rows = []
    for kind in ("magnitude", "signed"):
        P, made, _ = with_memory(lambda kind=kind: lg.NeuralCoupling(model, F.cross_entropy, data, kind=kind), device)
        table, taken, most = with_memory(lambda P=P: lg.diagnose(P), device)
        rows.append(
            {
                "kind": kind,
                "nodes": P.num_nodes,
                "layers": len(table),
                "make P [s]": made,
                "diagnose [s]": taken,
                "memory [vectors]": most / (4 * P.num_nodes),
                "Σ beta": float(table["beta"].sum()),
            }
        )
        del P
    print("diagnose, ResNet-50, 16 images 3x64x64")
    show(rows)
    return rows


# measuring -------------------------------------------------------------------------------------------


def costs(work, device):
    """Seconds, the least of three runs or those of a long one, and the bytes that the first run adds at the most."""
    _, least, most = with_memory(work, device)
    for _ in range(2 if least < 1 else 0):
        start = time.perf_counter()
        work()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        least = min(least, time.perf_counter() - start)
    return least, most


def with_memory(work, device):
    """The result, seconds, and the peak of memory in bytes beyond that at the beginning."""
    return _on_host(work) if torch.device(device).type == "cpu" else _on_gpu(work)


def _on_gpu(work):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    begin, start = torch.cuda.memory_allocated(), time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return result, time.perf_counter() - start, torch.cuda.max_memory_allocated() - begin


def _on_host(work):
    page, done, most = os.sysconf("SC_PAGE_SIZE"), threading.Event(), [0]

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * page

    def watch():
        while not done.wait(0.005):
            most[0] = max(most[0], resident())

    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, so that it counts when it is taken again
    begin = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        result = work()
    finally:
        taken = time.perf_counter() - start
        done.set()
        watcher.join()
    return result, taken, max(most[0], resident()) - begin


def show(rows):
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3g}"), flush=True)


PARTS = {"graphs": random_graphs, "networks": networks, "resnet18": resnet_18, "resnet50": resnet_50}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=20, help="seconds after which a peer is not asked again")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "More than 30% of hub or authority scores are zeros")
    results = {part: PARTS[part](arguments.limit, arguments.device) for part in arguments.parts}
    print(f"{arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if arguments.json:
        save(arguments.json, "metrics", results, arguments.device)


if __name__ == "__main__":
    main()
