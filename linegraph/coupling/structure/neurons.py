"""``Structure``: the input and output neurons of synapses, and which of them paths join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from linegraph.coupling.operations import Rule
from linegraph.coupling.structure.provenance import Provenance, as_integers, merged
from linegraph.coupling.tracing.weights import Weight
from linegraph.lazy import cached_property
from linegraph.numerics import component_numbers

__all__ = ["Structure", "View"]


@dataclass(frozen=True)
class View:
    """One way in which operations use a synapse parameter, and what arrives at its input neurons.

    Attributes:
        weight: the parameter, reshaped or transposed as the operation gets it.
        rule: the operation, which says which neurons each weight joins.
        first_output: the number of its first output neuron, counted over all views.
        arrivals: for each call, from which output neurons paths lead to each input neuron.
    """

    weight: Weight
    rule: Rule
    first_output: int
    arrivals: list[Provenance]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight as the operation gets it."""
        return tuple(self.weight.value.shape)

    def leaving(self) -> np.ndarray:
        """How many weights leave each input neuron."""
        with torch.device("cpu"):
            return self.rule.degrees(self.shape)[0].numpy()

    def entering(self) -> np.ndarray:
        """How many weights enter each output neuron."""
        with torch.device("cpu"):
            return self.rule.degrees(self.shape)[1].numpy()

    def neurons(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every weight in use: its index in the flat parameter, its input neuron and its output neuron."""
        numel = self.weight.parameter.numel()
        with torch.device("cpu"):
            index = self.weight.rearranged(torch.arange(numel, dtype=torch.float64).view(self.weight.parameter.shape))
            into, out = (torch.broadcast_to(t, self.shape).flatten().numpy() for t in self.rule.neurons(self.shape))
        return index.flatten().numpy().astype(np.int64), into, out


class Structure:
    """The input and output neurons of all synapses, and which of them a path joins.

    Args:
        views: the synapse parameters as operations use them.

    Attributes:
        views: the same.
        num_outputs: the number of output neurons of all views.
        reach: for each view, from which output neurons a path leads to each of its input neurons.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.views = list(views)
        self.num_outputs = sum(len(view.entering()) for view in views)
        self.reach = [merged(view.arrivals, self.num_outputs) for view in views]

    @property
    def one_view_each(self) -> bool:
        """Whether every parameter is used in one way only, so that no edge can be counted twice."""
        names = [view.weight.name for view in self.views]
        return len(set(names)) == len(names)

    def num_edges(self) -> int:
        """Number of edges: Σ over pairs (i, i') that a path joins of in-degree(i) × out-degree(i')."""
        if not self.views:
            return 0
        entering = np.concatenate([view.entering() for view in self.views])
        total = 0
        for view, reach in zip(self.views, self.reach, strict=True):
            per_label = reach.sources.astype(np.int64) @ entering
            total += int(per_label[as_integers(reach.labels)] @ view.leaving())
        return total

    @cached_property
    def components(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each view, the component number of each of its input neurons and of each of its output neurons.

        Neurons that paths join have the same number.
        """
        sizes = [len(reach.labels) for reach in self.reach]
        first = self.num_outputs + np.cumsum([0, *sizes])
        vertices, edges = int(first[-1]), [np.zeros((2, 0), np.int64)]
        for reach, begin in zip(self.reach, first, strict=False):
            pairs = reach.sources[as_integers(reach.labels)].tocoo()
            edges.append(np.stack([pairs.col, pairs.row + begin]))
        # A weight that is used in two ways joins the output neurons that it enters, and the input neurons that it
        # leaves.
        begins: dict[str, int] = {}
        for view, begin in zip(self.views, first, strict=False):
            if self.one_view_each:
                break
            numel = view.weight.parameter.numel()
            if view.weight.name not in begins:
                begins[view.weight.name], vertices = vertices, vertices + 2 * numel
            index, into, out = view.neurons()
            row = begins[view.weight.name] + index
            edges += [np.stack([out + view.first_output, row]), np.stack([into + begin, row + numel])]
        ends = np.concatenate(edges, 1)
        graph = csr_array((np.ones(ends.shape[1], bool), tuple(ends)), shape=(vertices, vertices))
        numbers = component_numbers(graph)
        inputs = np.split(numbers[self.num_outputs : first[-1]], np.cumsum(sizes)[:-1])
        outputs = [numbers[view.first_output :][: len(view.entering())] for view in self.views]
        return list(zip(inputs, outputs, strict=True))
