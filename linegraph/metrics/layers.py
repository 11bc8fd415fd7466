"""Which nodes belong together: the synapse tensors of a network, or all nodes of a graph."""

from __future__ import annotations

from typing import NamedTuple

from linegraph.coupling.base import Coupling

__all__ = ["Layer", "layers"]


class Layer(NamedTuple):
    """One synapse tensor and the nodes it is."""

    name: str
    op: str
    nodes: slice

    @property
    def size(self) -> int:
        """Number of nodes."""
        return self.nodes.stop - self.nodes.start


def layers(P: Coupling) -> tuple[Layer, ...]:
    """The synapse tensors of P, or of what P is the transpose of; one layer "graph" of all nodes if there are none."""
    for coupling in (P, P.T):
        if synapses := getattr(coupling, "synapses", None):
            return tuple(Layer(s.name, s.op, slice(s.offset, s.offset + s.numel)) for s in synapses)
    return (Layer("graph", "", slice(0, P.num_nodes)),)
