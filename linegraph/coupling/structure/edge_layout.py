"""Where each edge of the line graph stands among all of them, computed by index arithmetic.

All weights that enter one output neuron couple with the same weights: those that leave the input neurons to which
a path leads from that neuron. These are called its *followers*. So every output neuron gives a complete bipartite
graph, from its followers to the weights that enter it, and the line graph is the union of these. Where all output
neurons of a synapse layer have equally many followers, the edges into its weights form a dense block of shape (weights
of the layer, followers), which broadcasting fills. Edges are sorted by target, then by source.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.coupling.structure.neurons import Structure, View
from linegraph.lazy import cached_property
from linegraph.numerics import empty

__all__ = ["EdgeLayout", "SynapseLayer"]


class SynapseLayer:
    """One synapse parameter as one operation uses it, y = W · x: its weights are rows of P, and columns of P.

    A parameter that operations use in two ways, as it is and transposed for instance, makes two of these.

    Attributes:
        view: the parameter, the operation, and what arrives at its input neurons.
        key: name, view and operation, which tell calls apart.
        offset: first node of the parameter, which has ``numel`` of them.
        nodes: the nodes of its weights, in the order in which the operation uses them.
        inputs: the input neuron that each weight leaves, counted within the synapse layer.
        outputs: the output neuron that each weight enters, counted over all synapse layers.
        first: its first output neuron; ``end`` is the one after its last.
        contiguous: whether ``nodes`` count up by one.
        followed: a sparse matrix (output neurons, weights of the parameter), non-zero where a weight follows.
        number: for each entry of the parameter the number of its column; −1 for entries that the operation does not
            use. Two weights that follow the same output neuron have different numbers, so that one product of P with
            the sum of all columns of one number gives each of their entries.
        count: how many column numbers there are.
    """

    def __init__(self, view: View, offset: int, labels: np.ndarray, sources: csr_array) -> None:
        index, into, out = view.neurons()
        self.view, self.offset = view, offset
        self.key = (view.weight.name, view.weight.view, view.rule.op)
        self.nodes, self.inputs, self.outputs = index + offset, into, out + view.first_output
        self.first, self.end = view.first_output, view.first_output + len(view.entering())
        self.contiguous = bool((np.diff(index) == 1).all())
        self.numel = numel = view.weight.parameter.numel()
        leaving = csr_array((np.ones(len(index), np.int32), (labels[into], index)), shape=(sources.shape[0], numel))
        self.followed = csr_array(sources.T.astype(np.int32) @ leaving)
        self.followed.sort_indices()
        number = self._places()
        if number is None:
            colours, rank = _colours(labels, sources)[into], _rank_within(into)
            number = np.full(numel, -1)
            number[index] = colours * (rank.max(initial=0) + 1) + rank
        self.number = number
        self.count = int(number.max(initial=-1)) + 1

    def outputs_of(self, node: int) -> np.ndarray:
        """The output neurons that a node enters, counted over all synapse layers.

        Empty if the node belongs to another synapse layer.
        """
        if self.contiguous:
            place = node - int(self.nodes[0])
            return self.outputs[place : place + 1] if place >= 0 else self.outputs[:0]
        return self.outputs[self.nodes == node]

    def rows(self) -> np.ndarray:
        """The output neuron of every entry of ``followed``."""
        return np.repeat(np.arange(self.followed.shape[0]), np.diff(self.followed.indptr))

    def _places(self) -> np.ndarray | None:
        """The place of each weight among the followers of an output neuron.

        None if it differs between output neurons.
        """
        columns, size = self.followed.indices, self.followed.shape[1]
        places = np.arange(len(columns)) - self.followed.indptr[self.rows()]
        found = np.full(size, -1)
        found[columns] = places
        return found if (found[columns] == places).all() else None


class EdgeLayout:
    """The edges of the line graph of a network, and the place of each among all of them.

    Args:
        structure: which neurons the paths join.
        offsets: first node of every parameter, by its name.
        num_nodes: number of nodes n.

    Attributes:
        synapse_layers: the synapse parameters as operations use them; they are the rows and columns of P.
        degree: (output neurons,), the number of followers of each, which are the edges into each weight that enters it.
        first: (output neurons + 1,), where the followers of each begin in ``followers``.
    """

    def __init__(self, structure: Structure, offsets: Mapping[str, int], num_nodes: int) -> None:
        self.num_nodes = num_nodes
        self.synapse_layers = [
            SynapseLayer(
                view, offsets[view.weight.name], reach.labels.reshape(-1).numpy().astype(np.int64), reach.sources
            )
            for view, reach in zip(structure.views, structure.reach, strict=True)
        ]
        counts = [np.diff(layer.followed.indptr).astype(np.int64) for layer in self.synapse_layers]
        self.degree = np.sum([np.zeros(structure.num_outputs, np.int64), *counts], axis=0)
        self.first = np.r_[0, np.cumsum(self.degree)]
        self._tables: dict[tuple[int, int], np.ndarray] = {}

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """``followers``, and for each synapse layer the places of its weights among them."""
        rows = np.concatenate([layer.rows() for layer in self.synapse_layers])
        nodes = np.concatenate(
            [layer.followed.indices.astype(np.int64) + layer.offset for layer in self.synapse_layers]
        )
        order = np.lexsort((nodes, rows))
        place = np.empty_like(order)
        place[order] = np.arange(len(order)) - self.first[rows[order]]
        return nodes[order], np.split(place, np.cumsum([layer.followed.nnz for layer in self.synapse_layers])[:-1])

    @property
    def followers(self) -> np.ndarray:
        """The nodes that follow each output neuron, sorted, one output neuron after the other."""
        return self._sorted[0]

    @cached_property
    def disjoint(self) -> bool:
        """Whether every weight is used in one way only, so that no edge belongs to two synapse layers."""
        seen = np.bincount(np.concatenate([layer.nodes for layer in self.synapse_layers]), minlength=self.num_nodes)
        return bool((seen <= 1).all())

    @cached_property
    def start(self) -> np.ndarray:
        """(n + 1,): where the edges into each node begin among all edges; last, the number of edges."""
        degree = np.zeros(self.num_nodes, dtype=np.int64)
        for layer in self.synapse_layers:
            degree[layer.nodes] = self.degree[layer.outputs]
        return np.r_[0, np.cumsum(degree)]

    def width(self, layer: SynapseLayer) -> int | None:
        """Number of followers of each output neuron of a layer.

        None if it varies, or the nodes do not count up by one.
        """
        degrees = self.degree[layer.first : layer.end]
        return int(degrees[0]) if layer.contiguous and len(degrees) and (degrees == degrees[0]).all() else None

    def edge_index(self, device: torch.device) -> Tensor:
        """The edges (2, E), int64: row 0 holds the sources, row 1 the targets."""
        index = empty((2, int(self.start[-1])), torch.int64, device)
        for layer in self.synapse_layers:
            if (width := self.width(layer)) is None:
                self._write_rows(index, layer)
            elif width and len(layer.nodes):
                self._write_block(index, layer, width)
        return index

    def _write_block(self, index: Tensor, layer: SynapseLayer, width: int) -> None:
        nodes = len(layer.nodes)
        block = index[:, self.start[layer.nodes[0]] :][:, : nodes * width]
        followers = self._tensor(self.followers[self.first[layer.first] : self.first[layer.end]], index)
        with torch.device("cpu"):
            out = layer.view.rule.neurons(layer.view.shape)[1].to(index.device)
        block[0].view(*layer.view.shape, width).copy_(followers.view(-1, width)[out])
        block[1].view(nodes, width).copy_(self._tensor(layer.nodes, index).unsqueeze(1))

    def _write_rows(self, index: Tensor, layer: SynapseLayer) -> None:
        degree = self.degree[layer.outputs]
        within = np.arange(degree.sum()) - np.repeat(np.cumsum(degree) - degree, degree)
        edges = self._tensor(np.repeat(self.start[layer.nodes], degree) + within, index)
        sources = self.followers[np.repeat(self.first[layer.outputs], degree) + within]
        index[0, edges] = self._tensor(sources, index)
        index[1, edges] = self._tensor(np.repeat(layer.nodes, degree), index)

    def joined(self, target: SynapseLayer, source: SynapseLayer) -> bool:
        """Whether any weight of ``source`` follows an output neuron of ``target``."""
        begin, end = source.followed.indptr[[target.first, target.end]]
        return bool(end > begin)

    def table(self, target: SynapseLayer, source: SynapseLayer) -> np.ndarray:
        """The place of the node of each column number among the followers of each output neuron.

        An array (output neurons of ``target``, column numbers of ``source``), −1 where no node of the column number
        follows the output neuron.
        """
        t, s = self.synapse_layers.index(target), self.synapse_layers.index(source)
        if (t, s) not in self._tables:
            begin, end = source.followed.indptr[[target.first, target.end]]
            table = np.full((target.end - target.first, source.count), -1)
            number = source.number[source.followed.indices[begin:end]]
            table[source.rows()[begin:end] - target.first, number] = self._sorted[1][s][begin:end]
            self._tables[t, s] = table
        return self._tables[t, s]

    def in_place(self, target: SynapseLayer, source: SynapseLayer) -> bool:
        """Whether the entries of two synapse layers form one block (weights, columns) in the vector of all entries."""
        table = self.table(target, source)
        if self.width(target) is None or not table.size:
            return False
        return bool(table[0, 0] >= 0 and (table == table[0, 0] + np.arange(source.count)).all())

    def block(self, weight: Tensor, target: SynapseLayer, source: SynapseLayer, columns: slice) -> Tensor | None:
        """A view of some columns, (weights of ``target``, columns), into the vector of all entries ``weight``.

        None where these entries do not form a block there.
        """
        if not self.in_place(target, source):
            return None
        width, first = self.width(target), int(self.table(target, source)[0, 0])
        assert width is not None
        rows = weight[self.start[target.nodes[0]] :][: len(target.nodes) * width].view(-1, width)
        return rows[:, first + columns.start : first + columns.stop]

    def add(self, weight: Tensor, target: SynapseLayer, source: SynapseLayer, columns: slice, entries: Tensor) -> None:
        """Add entries (weights of ``target``, columns) at their places in the vector of all entries ``weight``."""
        place = self.table(target, source)[target.outputs - target.first, columns]
        rows, found = np.nonzero(place >= 0)
        edges = self.start[target.nodes[rows]] + place[rows, found]
        weight.index_add_(
            0, self._tensor(edges, weight), entries[self._tensor(rows, weight), self._tensor(found, weight)]
        )

    def sources(self, target: SynapseLayer, source: SynapseLayer, columns: slice) -> np.ndarray:
        """(output neurons of ``target``, columns): the node that has this column number and follows.

        −1 where there is none.
        """
        place = self.table(target, source)[:, columns]
        found = self.first[target.first : target.end, None] + np.maximum(place, 0)
        return np.where(place >= 0, self.followers[np.minimum(found, len(self.followers) - 1)], -1)

    @staticmethod
    def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(like.device)


def _rank_within(groups: np.ndarray) -> np.ndarray:
    """For every element, how many elements of the same group stand before it."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.empty(len(groups), dtype=np.int64)
    rank[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
    return rank


def _colours(labels: np.ndarray, sources: csr_array) -> np.ndarray:
    """A colour for each input neuron; two that share a source neuron differ in colour (greedy, in order)."""
    taken: dict[int, set[int]] = {}
    colours = np.zeros(len(labels), dtype=np.int64)
    for neuron, label in enumerate(labels):
        reached = sources.indices[sources.indptr[label] : sources.indptr[label + 1]]
        used = set().union(*(taken.get(int(s), set()) for s in reached))
        colour = next(c for c in range(len(used) + 1) if c not in used)
        colours[neuron] = colour
        for s in reached:
            taken.setdefault(int(s), set()).add(colour)
    return colours
