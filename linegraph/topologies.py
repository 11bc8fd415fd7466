"""``topology``: measures of a graph, or of the neurons of a network, beside those of null models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from torch import Tensor, nn

from linegraph.arguments import check_choice, check_limit, check_number_of, check_seed
from linegraph.coupling import base
from linegraph.coupling.base import Coupling
from linegraph.coupling.graph import GraphCoupling
from linegraph.errors import ArgumentTypeError, DataError, NotAGraphError, TooLargeError
from linegraph.graphs.neuron_graphs import neuron_graph
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.metrics.null_models import NULL_MODELS, Edges, edges_of
from linegraph.metrics.topological_measures import measures_of_weights, measures_of_wiring
from linegraph.progress import counting
from linegraph.pyg import is_data

__all__ = ["topology"]

MAX_EDGES = 500_000
"""Default limit of the edges: up to a minute for each graph that is measured."""

SAME = 1e-8
"""Relative deviation of a measure over random graphs up to which it is the same for all of them, but for rounding."""


def topology(
    graph: nn.Module | AnyGraph,
    data: Any = None,
    *,
    null: str | Sequence[str] = ("rewired", "shuffled"),
    samples: int = 20,
    sources: int = 500,
    max_edges: float = MAX_EDGES,
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Topological measures of a graph, or of the neurons of a network, beside those of random graphs of null models.

    A is the matrix of absolute weights, with those of parallel edges, such as the taps of a kernel, added up. An edge
    of weight 0, such as a pruned weight, is no edge. Measures in the second part of the table ignore the direction and
    the weights of edges, and self-loops. Those of the third part have weights, and if clustering, paths and communities
    ignore the direction, these are the weights of (A + Aᵀ)/2.

    ==========================  =========================================================================
    nodes, edges, density       n, the number E of ordered pairs (j, i) that are joined, E / (n (n − 1))
    degree_assortativity        :func:`~linegraph.assortativity` of these edges without weights

    mean_degree                 ⟨k⟩, the mean number of neighbours
    degree_heterogeneity        σ_k / ⟨k⟩
    clustering                  the mean over nodes of the share of pairs of neighbours that are joined
    transitivity                the share of paths of two edges whose ends are joined: 3 triangles / paths
    square_clustering           the share of paths of three edges whose ends are joined by a fourth: 4 C₄ / L₃
    largest_component           the share of nodes in the largest connected component
    path_length                 the mean length of shortest paths between connected nodes
    efficiency                  the mean of 1 / length over all pairs of nodes, 0 for those not connected
    betweenness_heterogeneity   σ / mean of the betweenness over nodes
    algebraic_connectivity      λ₂ of the Laplacian D − A; 0 for a graph that is not connected

    mean_strength               ⟨s⟩ = 1ᵀA1 / n
    in_strength_heterogeneity   σ_in / ⟨s⟩ of the in-strengths A1; likewise out_strength_heterogeneity of Aᵀ1
    symmetry, beta_eff          as in :func:`~linegraph.capacitance`: the neural capacitance of the graph itself, which
                                is ⟨s⟩ (1 + symmetry · in_strength_heterogeneity · out_strength_heterogeneity)
    strength_assortativity      :func:`~linegraph.assortativity` of A
    weighted_clustering         clustering in which each triangle at a node has the weight of its two edges there
    weighted_path_length        the mean length of shortest paths if edges have the length ⟨w⟩/w
    modularity, communities     of the partition that :func:`~linegraph.communities` finds
    spectral_radius, ...        ``spectral_norm``, ``spectral_gap``, ``stable_rank``: the functions of these names, of A

    small_worldness             (clustering / its mean over rewired graphs) / (path_length / its mean over them)
    ==========================  =========================================================================

    Null models. *rewired* exchanges the ends of pairs of edges, so that all nodes keep their in- and out-degrees, and
    deals out the weights to the edges at random. *shuffled* keeps the wiring, and deals out the weights at random. In a
    network, both keep layers: the ends are exchanged and the weights dealt out among edges between the same two layers.
    Edges into junctions (:func:`~linegraph.neuron_graph`) stay. A symmetric matrix, as of an undirected graph, stays
    symmetric. The z-score, (value − mean) / std, says how many standard deviations a measure is away from what
    degrees, or the distribution of weights, explain.

    What layers decide. A feed-forward network has edges between layers only. Its clustering and transitivity are 0 by
    construction, unless edges skip layers, its spectral_radius is 0, since it has no cycle, and its small_worldness is
    nan. Look at square_clustering, and at singular values instead. Between dense layers there is one wiring only, so
    that the z-scores of *rewired* are nan for what depends on the wiring alone.

    Args:
        graph: a network, whose :func:`~linegraph.neuron_graph` is measured; or a coupling or a graph of n nodes (PyG,
            igraph, networkx, SciPy). Layers are those of the network of a coupling, or the node attribute ``layer``
            of a PyG ``Data``, as neuron graphs and line graphs have it.
        data: for a network, and only for one: one batch of inputs, as ``neuron_graph`` takes them, without targets.
        null: names of null models, "rewired" or "shuffled"; () for none.
        samples: number of random graphs of each null model, 2 or more.
        sources: paths are searched from this many nodes, drawn at random, if the graph has more. Means of lengths hold
            within a few percent then, but the betweenness_heterogeneity is overestimated: compare it with null models
            only, or pass the number of nodes.
        max_edges: largest number of edges E to measure.
        seed: of all random choices.
        progress: show a bar over graphs. None: in notebooks, and if stderr is a terminal and
            the environment variable ``CI`` is not set.

    Returns:
        DataFrame with the measures as its index, the column ``value``, and for each null model ``<null>_mean``,
        ``<null>_std``, the standard deviation over samples, and ``<null>_z``. A measure is nan where it is undefined,
        and a z-score where all random graphs have the same value. Strengths, beta_eff, spectral_radius and
        spectral_norm have the unit of the weights, all others none. ``.attrs`` has ``samples``, ``seed``, and
        ``sources``, the number of nodes that paths were searched from.

    Cost: for a network, one ``neuron_graph``. For each graph that is measured, O(sources · E log n) for paths, O(E d)
    for clustering at largest degree d, and the rest; on one core, for every 100,000 edges, about 2 s between
    dense layers and 10 s in a sparse graph, plus 1 s for the random numbers of a rewired graph. With the defaults 41
    graphs are measured.

    Raises:
        ArgumentTypeError: if ``data`` are given with a graph, or ``null`` is not made of names.
        DataError: if a network comes without data, or an argument is out of its range.
        NotAGraphError: if ``graph`` is neither a network nor a graph.
        TooLargeError: if there are more than ``max_edges`` edges.

    Source: S. Maslov, K. Sneppen, Science 296 (2002), for z-scores against rewired graphs; D. Watts, S. Strogatz,
    Nature 393 (1998), for clustering and path length; G. Robins, M. Alexander, Computational & Mathematical
    Organization Theory 10 (2004), for 4 C₄ / L₃; A. Barrat et al., PNAS 101 (2004), for weighted clustering; V. Latora,
    M. Marchiori, Physical Review Letters 87 (2001), for efficiency; M. Humphries, K. Gurney, PLoS ONE 3 (2008), for
    small-worldness.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> table = lg.topology(nx.karate_club_graph(), null="rewired", samples=5)
        >>> table["value"].round(2)[["clustering", "path_length", "modularity"]].to_dict()
        {'clustering': 0.57, 'path_length': 2.41, 'modularity': 0.44}
        >>> list(table)
        ['value', 'rewired_mean', 'rewired_std', 'rewired_z']
    """
    nulls = _nulls(null)
    check_number_of("samples", samples, least=2)
    check_number_of("sources", sources)
    check_limit("max_edges", max_edges)
    check_seed(seed)
    A, layer = _matrix(graph, data, max_edges)
    n = A.shape[0]
    drawn = np.random.default_rng(seed).choice(n, sources, replace=False) if n > sources else np.arange(n)
    given = edges_of(A, layer)
    wiring = measures_of_wiring(A, drawn)
    values = wiring | measures_of_weights(A, drawn, seed)
    columns = {"value": pd.Series(values, dtype=float)}
    with counting(progress, total=len(nulls) * samples, desc="topology") as bar:
        for name in nulls:
            found = []
            for k in range(samples):
                found.append(_measured(NULL_MODELS[name](given, _seed(seed, k)), given, wiring, drawn, seed))
                bar.update()
            columns |= _compared(name, columns["value"], pd.DataFrame(found))
    table = pd.DataFrame(columns)
    table.loc["small_worldness", "value"] = _small_worldness(table) if "rewired" in nulls else math.nan
    table.index.name = "measure"
    table.attrs = {"samples": int(samples), "seed": int(seed), "sources": len(drawn)}
    return table


def _nulls(given: Any) -> list[str]:
    """The names of null models, each once."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence):
        raise ArgumentTypeError(
            f"null must be names of null models, some of {', '.join(map(repr, NULL_MODELS))}, or () for none, "
            f"got an object of type {type(given).__name__}"
        )
    for name in names:
        check_choice("null", name, NULL_MODELS)
    return list(dict.fromkeys(names))


def _matrix(graph: Any, data: Any, max_edges: float) -> tuple[csr_array, np.ndarray | None]:
    """The matrix A of absolute weights, and the layer of each node, None if there are no layers."""
    if isinstance(graph, nn.Module):
        if data is None:
            raise DataError("the neurons of a network are those of a pass: pass a batch of inputs, topology(model, x)")
        graph = neuron_graph(graph, data, max_edges=max(base.MAX_EDGES, max_edges))  # type: ignore[arg-type]
    elif data is not None:
        raise ArgumentTypeError("data are the inputs of a network; a graph or coupling is passed alone")
    try:
        P = as_coupling(graph)
    except NotAGraphError as error:
        raise NotAGraphError(str(error).replace("expected a coupling", "expected a network, a coupling")) from None
    layer = _layer(graph, P)
    if not P.is_explicit:
        P = P.to_graph(max_edges)  # type: ignore[arg-type]
    assert isinstance(P, GraphCoupling)
    sources, targets = P.edge_index.cpu().numpy()
    A = csr_array((np.abs(P.weight.cpu().double().numpy()), (targets, sources)), shape=P.shape)
    A.sum_duplicates()
    A.eliminate_zeros()
    if A.nnz > max_edges:
        raise TooLargeError(
            f"this graph has {A.nnz:,} edges, more than max_edges={max_edges:,}; raise the limit (2 to 10 s for every "
            "100,000 edges of each graph that is measured, see samples= and null=), or measure a part or a coarser "
            "graph: lg.neuron_graph(model, x, include=[...]), or lg.coarse_graph(P)"
        )
    return A, layer


def _layer(graph: Any, P: Coupling) -> np.ndarray | None:
    """The layer of each node of a graph that has several."""
    layer = _node_attribute(graph, "layer") if is_data(graph) else None
    if isinstance(layer, Tensor) and layer.shape == (P.num_nodes,):
        return layer.cpu().numpy().astype(np.int64)
    sizes = [each.size for each in P.layers]
    return np.repeat(np.arange(len(sizes)), sizes) if len(sizes) > 1 else None


def _node_attribute(data: Any, name: str) -> Any:
    """An attribute of the nodes of a ``Data``, which may be a column of ``x``, as in line graphs; else None."""
    features = data.get("feature_names") or []
    return data.x[:, features.index(name)] if name in features else data.get(name)


def _seed(seed: int, sample: int) -> int:
    """The seed of one sample; different for all samples and seeds."""
    return int(np.random.SeedSequence((seed, sample)).generate_state(1)[0])


def _measured(edges: Edges, given: Edges, wiring: dict[str, float], drawn: np.ndarray, seed: int) -> dict[str, float]:
    """The measures of a random graph; those of the wiring are at hand if it is that of the given graph."""
    A = edges.matrix()
    if not np.array_equal(edges.ends, given.ends):
        wiring = measures_of_wiring(A, drawn)
    return wiring | measures_of_weights(A, drawn, seed)


def _compared(name: str, values: pd.Series, found: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns of a null model: mean, standard deviation and z-score."""
    mean, std = found.mean(skipna=False), found.std(skipna=False)
    std = std.where(std > SAME * mean.abs(), 0.0 * std)
    return {f"{name}_mean": mean, f"{name}_std": std, f"{name}_z": ((values - mean) / std).where(std > 0)}


def _small_worldness(table: pd.DataFrame) -> float:
    clustering, length = (table.loc[name] for name in ("clustering", "path_length"))
    if not clustering["rewired_mean"]:
        return math.nan
    return float(clustering["value"] / clustering["rewired_mean"] / (length["value"] / length["rewired_mean"]))
