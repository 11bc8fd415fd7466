"""Explicit line graphs against PyG, igraph, networkx and SciPy: seconds, and ratios to the time of linegraph.

python -m benchmarks.line_graph [--runs 5] [--seconds 20] [--gigabytes 6] [--batch 64] [--device cuda] [--json FILE]

Sizes grow; a peer that took longer than --seconds at one size, or would need more than --gigabytes (estimated from the
size before), is not run on larger ones. "ours, with weights" makes the coupling of the network from scratch, then its
line graph with all couplings and node features; "ours, of the graph" is the line graph of the neuron graph as PyG
object, which the peers get too, each in its own type of graph. SciPy multiplies sparse incidence matrices. "write once"
writes arrays of the size of the result, edge indices and weights, once, into new memory. With --device, linegraph, the
writing and PyG run on that device, the others on the host.
"""

import argparse
import resource
import statistics
import time
from itertools import pairwise

import igraph
import networkx as nx
import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import nn
from torch_geometric.data import Data
from torch_geometric.transforms import LineGraph

import linegraph as lg
from benchmarks.page import save

PERCEPTRONS = [(20, 10, 5), (784, 32, 10), (784, 100, 50, 10), (784, 256, 128, 10), (784, 512, 256, 10)]
LIMIT = 2**31


def perceptron(widths):
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), torch.randn(1, widths[0])


def convolutions(channels):
    layers = [layer for a, b in pairwise(channels) for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10)), torch.randn(
        1, 3, 8, 8
    )


NETWORKS = {
    **{"MLP " + "-".join(map(str, w)): lambda w=w: perceptron(w) for w in PERCEPTRONS},
    "CNN 3-16-32, kernels 3x3": lambda: convolutions((3, 16, 32)),
    "CNN 3-32-32-64, kernels 3x3": lambda: convolutions((3, 32, 32, 64)),
}


class Timer:
    """Median seconds of several runs; work that was too slow once is not timed again."""

    def __init__(self, runs, seconds, memory):
        self.runs, self.seconds, self.memory = runs, seconds, memory
        self.done, self.per_edge = {}, {}

    def __call__(self, name, prepare, work, edges):
        before = self.done.get(name)
        if before and edges / before[0] * before[1] > self.seconds and edges > before[0]:
            return None
        if edges * self.per_edge.get(name, 0) > self.memory:
            return None
        ready = prepare()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(self.runs + 1):
            start = time.perf_counter()
            result = work(ready)
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            del result
            if times[-1] > self.seconds:
                break
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) * 1024
        self.per_edge[name] = max(self.per_edge.get(name, 0), grown / edges)
        self.done[name] = edges, min(times)
        return statistics.median(times[1:] or times)  # the first run warms up


def incidence_product(ends):
    """The line graph as (heads)ᵀ(tails), a product of sparse incidence matrices."""
    tails, heads, n = ends
    one = np.ones(len(tails), dtype=np.float32)
    edge = np.arange(len(tails))
    return csr_array((one, (edge, heads)), (len(edge), n)) @ csr_array((one, (tails, edge)), (n, len(edge)))


def write_once(edges, device):
    index = torch.empty(2, edges, dtype=torch.int64, device=device).fill_(1)
    return index, torch.empty(edges, device=device).fill_(1)


def measure(make, timer, batch, device):
    torch.manual_seed(0)
    model, one = make()
    x = torch.randn(batch, *one.shape[1:], device=device)
    data = x, torch.randint(model(one).shape[1], (batch,), device=device)
    model.to(device)
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    edges = P.num_edges

    def ours(_):
        return lg.line_graph(lg.NeuralCoupling(model, F.cross_entropy, data), max_edges=LIMIT)

    neurons = lg.neuron_graph(model, x)
    tails, heads = neurons.edge_index.cpu().numpy()
    pairs = list(zip(tails.tolist(), heads.tolist(), strict=True))
    order = np.lexsort((heads, tails))  # PyG is right on sorted edges only
    parallel = len(np.unique(tails * len(neurons.kind) + heads)) < len(tails)
    graph = Data(edge_index=neurons.edge_index, edge_weight=neurons.edge_weight, num_nodes=neurons.num_nodes)
    sorted_graph = Data(
        edge_index=neurons.edge_index[:, order].contiguous(),
        edge_attr=neurons.edge_weight[order].unsqueeze(1),
        num_nodes=neurons.num_nodes,
    )
    seconds = {
        "ours, with weights": timer("ours", lambda: None, ours, edges),
        "ours, of the graph": timer(
            "graph", lambda: graph, lambda g: lg.line_graph(g, directed=True, max_edges=LIMIT), edges
        ),
        "write once": timer("write", lambda: edges, lambda n: write_once(n, device), edges),
        "SciPy": timer("SciPy", lambda: (tails, heads, graph.num_nodes), incidence_product, edges),
        "igraph": timer(
            "igraph",
            lambda: igraph.Graph(graph.num_nodes, np.stack([tails, heads], 1), directed=True),
            lambda g: g.linegraph(),
            edges,
        ),
        # PyG merges parallel edges, such as the taps of a kernel, into one node.
        "PyG": None
        if parallel
        else timer("PyG", lambda: sorted_graph, lambda g: LineGraph(force_directed=True)(g.clone()), edges),
        "networkx": timer("networkx", lambda: nx.MultiDiGraph(pairs), nx.line_graph, edges),
    }
    return {"nodes": P.num_nodes, "edges": edges, **seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--gigabytes", type=float, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    timer = Timer(arguments.runs, arguments.seconds, arguments.gigabytes * 2**30)
    timer(
        "warm up", lambda: None, lambda _: measure(NETWORKS["MLP 20-10-5"], Timer(1, 20, 2**33), 4, arguments.device), 1
    )
    rows = {}
    for name, make in NETWORKS.items():
        rows[name] = measure(make, timer, arguments.batch, arguments.device)
        row = rows[name]
        print(f"\n{name}: {row['nodes']:,} nodes, {row['edges']:,} edges")
        ours = row["ours, with weights"]
        for work, seconds in row.items():
            if work in ("nodes", "edges"):
                continue
            text = "too slow or too big, or merges parallel edges" if seconds is None else f"{seconds:10.4f} s"
            ratio = "" if seconds is None or ours is None else f"{seconds / ours:9.2f} x ours with weights"
            print(f"  {work:20s}{text}{ratio}", flush=True)
    setting = f"float32, {arguments.device}, batch {arguments.batch}, {torch.get_num_threads()} threads"
    print(f"\n{setting}, torch {torch.__version__}")
    if arguments.json:
        table = [{"network": name} | row for name, row in rows.items()]
        save(arguments.json, "line_graph", {"seconds": table}, arguments.device)


if __name__ == "__main__":
    main()
