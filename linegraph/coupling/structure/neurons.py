"""The neurons that synapses leave and enter, and which of them the paths join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from linegraph.coupling.operations import Rule
from linegraph.coupling.structure.provenance import Provenance, _integers, _merge
from linegraph.coupling.tracing.weights import Weight
from linegraph.lazy import cached_property
from linegraph.numerics import component_numbers

__all__ = ["Structure", "View"]


@dataclass(frozen=True)
class View:
    """One way in which operations see a synapse parameter, and what arrives at its input neurons."""

    weight: Weight
    rule: Rule
    first_output: int
    """Number of its first output neuron, counted over all views."""
    arrivals: list[Provenance]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight as the operation sees it."""
        return tuple(self.weight.value.shape)

    def leaving(self) -> np.ndarray:
        """Weights that leave each input neuron."""
        with torch.device("cpu"):
            return self.rule.degrees(self.shape)[0].numpy()

    def entering(self) -> np.ndarray:
        """Weights that enter each output neuron."""
        with torch.device("cpu"):
            return self.rule.degrees(self.shape)[1].numpy()

    def neurons(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every weight seen: its index in the parameter, its input neuron, its output neuron."""
        numel = self.weight.parameter.numel()
        with torch.device("cpu"):
            index = self.weight.rearranged(torch.arange(numel, dtype=torch.float64).view(self.weight.parameter.shape))
            into, out = (torch.broadcast_to(t, self.shape).flatten().numpy() for t in self.rule.neurons(self.shape))
        return index.flatten().numpy().astype(np.int64), into, out


class Structure:
    """The input and output neurons of all synapses, and which of them a path joins.

    ``views`` are the synapses as operations see them; ``reach[q]`` says, for each input neuron of view q, by
    label, which output neurons lead to it.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.views = list(views)
        self.num_outputs = sum(len(view.entering()) for view in views)
        self.reach = [_merge(view.arrivals, self.num_outputs) for view in views]

    @property
    def one_view_each(self) -> bool:
        """Whether every parameter is seen in one way only, so that no edge can be counted twice."""
        names = [view.weight.name for view in self.views]
        return len(set(names)) == len(names)

    def num_edges(self) -> int:
        """Σ over joined neurons (i, i') of in-degree(i) × out-degree(i')."""
        if not self.views:
            return 0
        entering = np.concatenate([view.entering() for view in self.views])
        total = 0
        for view, reach in zip(self.views, self.reach, strict=True):
            per_label = reach.sources.astype(np.int64) @ entering
            total += int(per_label[_integers(reach.labels)] @ view.leaving())
        return total

    @cached_property
    def components(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each view a number for each of its input and its output neurons; those that paths join have the same."""
        sizes = [len(reach.labels) for reach in self.reach]
        first = self.num_outputs + np.cumsum([0, *sizes])
        vertices, edges = int(first[-1]), [np.zeros((2, 0), np.int64)]
        for reach, begin in zip(self.reach, first, strict=False):
            pairs = reach.sources[_integers(reach.labels)].tocoo()
            edges.append(np.stack([pairs.col, pairs.row + begin]))
        # Each weight seen in two ways joins the output neurons that it enters, and the input neurons that it leaves.
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
