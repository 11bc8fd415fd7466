"""Edges and their attributes as read from a file, and the choice of the attribute that is the weight."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import DataError, NonFiniteWeightError, WeightNameWarning
from linegraph.io.values import claims_number, numbers

__all__ = ["Attribute", "Edges", "Matrix", "no_weight", "plain"]

WEIGHTS = {"weight", "weights", "edgeweight", "edgeweights"}
NO_WEIGHTS = set(
    re.findall(
        r"\w+",
        "id eid key index idx name label type kind class category group layer relation interaction directed colour "
        "color comment description reference doi url time timestamp timestamps ts t date datetime year month week day "
        "hour minute second epoch timeset interval start end created updated",
    )
)
"""Names of numeric attributes that are not taken for weights, unless ``weight=`` names them."""


@dataclass
class Attribute:
    """An attribute of edges, with one value for each edge.

    Attributes:
        values: numbers, or the texts in the file; None for an edge without a value.
        numeric: whether the file declares numbers; None if it declares no type.
        whole: whether the file declares integers.
        default: the declared value of edges that have none; None if no default is declared.
        declared: the declared type, for messages.
    """

    values: Sequence[str | None] | np.ndarray
    numeric: bool | None = None
    whole: bool = False
    default: str | None = None
    declared: str = ""

    @property
    def may_be_weight(self) -> bool:
        """Whether the values are numbers: by the declared type, or else by their form."""
        if self.numeric is not None:
            return self.numeric
        return any(value is not None and claims_number(value) for value in self.values)


@dataclass
class Edges:
    """A network as read from a file.

    Attributes:
        sources: number of the source node of each edge, (E,).
        targets: number of the target node of each edge, (E,).
        num_nodes: number of nodes n.
        directed: whether edges are directed; None if the file does not say.
        attributes: the attributes of edges by name.
        lines: the line of each edge in the file, for messages about weights that are texts.
        names: the names of the nodes in the file, (n,); None if it only numbers them.
    """

    sources: np.ndarray
    targets: np.ndarray
    num_nodes: int
    directed: bool | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    lines: Sequence[int] = ()
    names: Sequence[str] | None = None

    def graph(self, weight: str | None, directed: bool | None = None) -> GraphCoupling:
        """The coupling, with the attribute ``weight`` as its weights.

        Raises:
            DataError: if there is no such attribute, if it holds no numbers, if more than one attribute may be meant,
                or if the file contradicts ``directed``.
            NonFiniteWeightError: if a weight is NaN or infinite.
        """
        if directed is not None and self.directed is not None and directed != self.directed:
            said = "directed" if self.directed else "undirected"
            raise DataError(f"the file says that its edges are {said}, and directed={directed} was given; leave it out")
        one_way = self.directed if directed is None else directed
        values = self._weights(_chosen(self.attributes, weight, bool(len(self.sources))))
        sources, targets = self.sources, self.targets
        if one_way is False:
            other_way = sources != targets
            sources, targets = np.r_[sources, targets[other_way]], np.r_[targets, sources[other_way]]
            values = np.r_[values, values[other_way]]
        index = torch.from_numpy(np.stack([sources, targets]).astype(np.int64, copy=False))
        names = self.names if self.names != [str(node) for node in range(self.num_nodes)] else None
        return GraphCoupling(index, torch.from_numpy(values), num_nodes=self.num_nodes, node_names=names)

    def _weights(self, name: str | None) -> np.ndarray:
        if name is None:
            return np.ones(len(self.sources))
        attribute = self.attributes[name]
        if attribute.numeric is False:
            raise DataError(f"the edge attribute {name!r} is declared as {attribute.declared}, and weights are numbers")
        if isinstance(attribute.values, np.ndarray):
            return _finite(attribute.values)
        default = "1" if attribute.default is None else attribute.default
        texts = [default if value is None else value for value in attribute.values]
        return numbers(texts, lambda k: f"edge {k}: the weight in line {self.lines[k]}", whole=attribute.whole)


@dataclass
class Matrix:
    """The entries of a matrix m, with ``m[i, j]`` the weight of j → i.

    Attributes:
        rows: the row i of each entry.
        columns: its column j.
        values: the entries.
        shape: of the matrix.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]

    def graph(self, weight: str | None, directed: bool | None = None) -> GraphCoupling:
        """The coupling; see :meth:`Edges.graph`.

        Raises:
            DataError: if the matrix is not square, or complex; if ``weight`` is another name than "weight".
            NonFiniteWeightError: if an entry is NaN or infinite.
        """
        if self.shape[0] != self.shape[1]:
            raise DataError(f"a coupling is square, this matrix has shape {self.shape}")
        if self.values.dtype.kind == "c":
            raise DataError("weight must be real, these are complex; save their modulus, or their real part")
        attributes = {"weight": Attribute(np.ascontiguousarray(self.values, dtype=np.float64), numeric=True)}
        return Edges(self.columns, self.rows, self.shape[0], True, attributes).graph(weight, directed)


def plain(name: str) -> str:
    """A name in lower case without punctuation, for comparisons."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def no_weight(name: str) -> bool:
    """Whether an attribute of this name is not taken for the weight, such as ``id``, ``Edge ID`` and ``timestamp``."""
    words = re.findall(r"[A-Z]*[a-z0-9]+|[A-Z]+", name)
    return plain(name) in NO_WEIGHTS or (bool(words) and words[-1].lower() in NO_WEIGHTS)


def _chosen(attributes: Mapping[str, Attribute], weight: str | None, edges: bool) -> str | None:
    """The name of the attribute that holds the weights, by the rule of :func:`~linegraph.read_network`."""
    if weight is None or weight in attributes:
        return weight
    known = ", ".join(map(repr, attributes)) or "none"
    if weight != "weight":
        if not edges:
            return None
        raise DataError(f"no edge of this graph has an attribute {weight!r}; there are: {known}")
    spelled = [name for name in attributes if plain(name) in WEIGHTS]
    others = [name for name, it in attributes.items() if not no_weight(name) and it.may_be_weight]
    found = spelled or others
    if len(found) > 1:
        raise DataError(
            f"the edges have no 'weight', and numbers under {len(found)} names: {', '.join(map(repr, found))}; name "
            "one with weight=, or say weight=None for weights of 1 (--weight or --unweighted on the command line)"
        )
    if others and not spelled:
        warnings.warn(
            f"the edges have no 'weight'; the numbers under {others[0]!r} are taken for it. Say weight={others[0]!r} "
            "if they are, or weight=None for weights of 1 (--weight or --unweighted on the command line)",
            WeightNameWarning,
            stacklevel=4,
        )
    return found[0] if found else None


def _finite(values: np.ndarray) -> np.ndarray:
    if len(wrong := np.flatnonzero(~np.isfinite(values))):
        raise NonFiniteWeightError(f"the weight of edge {int(wrong[0])} is NaN or infinite")
    return values
