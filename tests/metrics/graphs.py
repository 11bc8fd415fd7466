"""Random graphs, and a coupling that counts its products."""

from itertools import pairwise

import torch
from hypothesis import strategies as st

import linegraph as lg
from linegraph.coupling.base import Coupling


@st.composite
def graphs(draw, smallest=1, largest=9, signed=False, loops=True):
    """Directed weighted graphs without parallel edges; isolated and dangling nodes come by themselves."""
    n = draw(st.integers(smallest, largest))
    nodes = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(nodes, nodes), max_size=3 * n, unique=True))
    if not loops:
        edges = [(j, i) for j, i in edges if i != j]
    weight = st.floats(0.1, 5)
    if signed:
        weight = st.one_of(weight, st.floats(-5, -0.1))
    weights = draw(st.lists(weight, min_size=len(edges), max_size=len(edges)))
    index = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T
    return lg.GraphCoupling(index, torch.tensor(weights, dtype=torch.float64), num_nodes=n)


def random_graph(n, edges, seed=0, dtype=torch.float64, signed=False):
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(n, (2, edges), generator=generator)
    index = torch.unique(index, dim=1)
    weight = torch.rand(index.shape[1], generator=generator, dtype=dtype) - (0.5 if signed else 0)
    return lg.GraphCoupling(index, weight, num_nodes=n)


class Implicit(Coupling):
    """A graph that only tells its products, and counts them."""

    def __init__(self, G):
        self.graph, self.products = G, 0

    num_nodes = property(lambda self: self.graph.num_nodes)
    dtype = property(lambda self: self.graph.dtype)
    device = property(lambda self: self.graph.device)
    num_edges = property(lambda self: self.graph.num_edges)
    is_non_negative = property(lambda self: self.graph.is_non_negative)

    def absolute_total(self):
        return self.graph.absolute_total()

    def _matmat(self, block):
        self.products += block.shape[1]
        return self.graph.matvec(block)

    def _rmatmat(self, block):
        self.products += block.shape[1]
        return self.graph.rmatvec(block)


def layered(*widths, dtype=torch.float64, seed=0):
    """An acyclic graph: all nodes of a layer to all of the next."""
    generator = torch.Generator().manual_seed(seed)
    parts, first = [], 0
    for a, b in pairwise(widths):
        parts.append(torch.cartesian_prod(torch.arange(first, first + a), torch.arange(first + a, first + a + b)).T)
        first += a
    index = torch.cat(parts, 1)
    weight = torch.rand(index.shape[1], generator=generator, dtype=dtype) + 0.5
    return lg.GraphCoupling(index, weight, num_nodes=sum(widths))


def empty(n=0):
    return lg.GraphCoupling(torch.empty(2, 0, dtype=torch.long), torch.empty(0, dtype=torch.float64), num_nodes=n)


def times(G, scale):
    """The same graph in other units."""
    return lg.GraphCoupling(G.edge_index, G.weight * scale, num_nodes=G.num_nodes)


def chain_of_cycles(count):
    """Cycles of three, each leading to the next: eigenvalues are tied, and have too few eigenvectors."""
    first = 3 * torch.arange(count)
    index = torch.stack([torch.cat([first, first + 1, first + 2]), torch.cat([first + 1, first + 2, first])])
    index = torch.cat([index, torch.stack([first[:-1], first[1:]])], 1)
    return lg.GraphCoupling(index, torch.ones(index.shape[1], dtype=torch.float64))


def in_order(scores, n):
    return [scores[i] for i in range(n)]
