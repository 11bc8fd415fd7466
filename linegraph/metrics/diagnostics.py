"""Tables of metrics: one row per synapse layer, one cell per pair of layers, one entry per metric of the graph."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array
from torch import Tensor

from linegraph.coupling.base import Coupling, Layer
from linegraph.errors import NegativeCouplingError, TooLargeError
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.linalg.components import is_acyclic
from linegraph.linalg.operators import entries, graph_of, normalized
from linegraph.linalg.options import check_finite
from linegraph.linalg.probes import PROBES_PER_PRODUCT, check_probes, random_signs
from linegraph.metrics.neural_capacitance import capacitance
from linegraph.metrics.norms import norm_gap_and_stable_rank, spectral_norm, spectral_radius
from linegraph.metrics.strength import checked_strengths
from linegraph.metrics.structure import assortativity, reciprocity
from linegraph.numerics import power_of_two
from linegraph.progress import counting

__all__ = ["diagnose", "layer_pairs", "summary"]

PROBES = 16
GROUPS = 4
"""Groups of probes for the jackknife; leaving out single probes changes a largest eigenvalue too little."""


def diagnose(
    P: AnyGraph, *, probes: int = PROBES, generator: torch.Generator | None = None, progress: bool = False
) -> pd.DataFrame:
    """A table of strengths, β_eff and ranks with one row per synapse layer; a graph without layers has one row.

    The columns are as follows, with sums and means over the synapses i of the layer ℓ. P_ℓ are the rows of P that
    belong to the layer.

    ===================  ===================================================================================
    layer, op            name of the parameter and the operation it enters
    synapses             number of nodes
    in_strength          Σ δ_in,i, in the units of P
    out_strength         Σ δ_out,i, in the units of P
    mean_in_strength     in_strength / synapses, in the units of P
    mean_out_strength    out_strength / synapses, in the units of P
    share                in_strength / 1ᵀP1, without unit
    beta                 Σ δ_out,i δ_in,i / 1ᵀP1, in the units of P: the contribution to β_eff of the walks of two steps
                         whose middle node is in this layer. The column sums to β_eff. :func:`layer_pairs` divides each
                         contribution by the layer in which the walk starts
    effective_degree     Σ δ_in,i² / ‖P_ℓ‖_F², without unit: the number of couplings into a synapse if all are equal;
                         smaller if few couplings dominate or if signs cancel. It is the mean over synapses of
                         δ_in,i² / Σ_j P_ij², weighted by Σ_j P_ij²
    stable_rank          ‖P_ℓ‖_F² / ‖P_ℓ‖₂², without unit: how many singular values are nearly as large as the largest
    ..._error            standard errors of effective_degree and stable_rank; 0 where these are exact
    ===================  ===================================================================================

    Norms are computed from the entries of P for a graph, for a network whose line graph has up to a million edges, and
    for any coupling of up to 256 nodes. Otherwise they are estimated from ``probes`` vectors ε of random signs, the
    same for all layers: ‖P_ℓ‖_F² = E‖(P ε)_ℓ‖², and ‖P_ℓ‖₂² from the Gram matrix of the columns (P ε)_ℓ, by the
    relation between the largest eigenvalue of a covariance matrix and the eigenvalues of a sample covariance matrix
    (spiked model). The standard error of the stable rank is that of the jackknife over groups of probes.

    With 16 probes, the error of the stable rank is about 15 % if the largest singular value is well separated. If many
    singular values are equal, the estimate is too small by more than its standard error (half of the true value 20, a
    quarter of 100). :func:`~linegraph.stable_rank` computes the norm of the whole P by a Krylov method instead.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        probes: number of random vectors, 2 or more, for the estimates.
        generator: ``torch.Generator`` that draws them; by default one with a fixed seed.
        progress: show a bar over probes.

    Returns:
        DataFrame with one row per layer, in the order of the model. If a layer has no couplings into it,
        effective_degree is 0 and stable_rank nan. share and beta are nan if 1ᵀP1 is 0.

    Cost: four products. Then either O(E) for the entries and one largest singular value per layer, or ``probes``
    products in blocks of 4 and ``probes`` vectors of memory. For a ResNet-50 (23.5 million synapses, 16 images of
    64x64) this takes about 30 s on two cores and 3 GB.

    Raises:
        DataError: if ``probes`` is not an integer ≥ 2.
        ArgumentTypeError: if ``generator`` is not one of torch's.
        ConvergenceError: if the largest singular value of a layer does not converge.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: C. Jiang et al., arXiv 2201.04194, for β_eff; J. Baik, J. Silverstein, Journal of Multivariate Analysis 97
    (2006), for the norm.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> data = torch.randn(8, 4), torch.randn(8, 2)
        >>> P = lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data, kind="magnitude")
        >>> lg.diagnose(P)[["layer", "op", "synapses"]]
              layer      op  synapses
        0  0.weight  linear        12
        1  2.weight  linear         6
    """
    P = as_coupling(P)
    check_probes(probes, generator)
    all_received, all_sent = checked_strengths(P)
    beta = capacitance(P)
    degenerate = math.isnan(beta.beta_eff)
    places = P.layers
    unit = power_of_two(max((float(s.abs().max()) for s in (all_received, all_sent) if len(s)), default=0.0))
    norms = _layer_norms(P, places, probes, generator, progress)
    rows = []
    for layer, norm in zip(places, norms, strict=True):
        received = all_received[layer.nodes].double()
        sent = all_sent[layer.nodes].double()
        rows.append(
            _with_plain_zeros(
                {
                    "layer": layer.name,
                    "op": layer.op,
                    "synapses": layer.size,
                    "in_strength": float(received.sum()),
                    "out_strength": float(sent.sum()),
                    "mean_in_strength": float(received.mean()),
                    "mean_out_strength": float(sent.mean()),
                    "share": math.nan if degenerate else float(received.sum()) / beta.denominator,
                    "beta": math.nan if degenerate else float(received / unit @ sent) / (beta.denominator / unit),
                    "effective_degree": (degree := norm.effective_degree(received)),
                    "stable_rank": norm.stable_rank,
                    "effective_degree_error": degree * norm.squares_error,
                    "stable_rank_error": norm.rank_error,
                }
            )
        )
    return pd.DataFrame(rows)


def layer_pairs(P: AnyGraph, *, progress: bool = False) -> pd.DataFrame:
    """The contribution of each pair of layers to β_eff, from layer m (columns) to layer ℓ (rows).

        B[ℓ, m] = Σ_(i in ℓ, j in m) δ_out,i P_ij / 1ᵀP1

    The numerator is the sum over walks of two steps whose first node is in layer m and whose second node is in layer ℓ.
    A row sums to the entry of its layer in the column ``beta`` of :func:`diagnose`, and the whole table to β_eff. If no
    path joins two layers, their entry is exactly 0.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        progress: show a bar over layers.

    Returns:
        DataFrame (layers, layers) in the units of P, with the names of the layers as index and columns. All entries are
        nan if 1ᵀP1 is 0.

    Cost: the strengths, the products of :func:`~linegraph.capacitance` and one product per layer, in blocks of 4 that
    take 4 vectors of memory.

    Raises:
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: C. Jiang et al., arXiv 2201.04194, for β_eff.

    Example:
        >>> import torch, linegraph as lg
        >>> path = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]))
        >>> float(lg.layer_pairs(path).loc["graph", "graph"])  # β_eff, as a graph is one layer
        0.5
    """
    P = as_coupling(P)
    places = P.layers
    sent = P.out_strength()
    unit = power_of_two(float(sent.abs().max()) if len(sent) else 0.0)
    beta = capacitance(P)
    table = np.zeros((len(places), len(places)))
    with counting(progress, total=len(places), unit="layer", desc="pairs of layers") as bar:
        for first in range(0, len(places), PROBES_PER_PRODUCT):
            some = places[first : first + PROBES_PER_PRODUCT]
            block = torch.zeros(P.num_nodes, len(some), dtype=P.dtype, device=P.device)
            for column, layer in enumerate(some):
                block[layer.nodes, column] = 1
            received = P.matvec(block)
            for row, layer in enumerate(places):
                sums = (sent[layer.nodes].double() / unit) @ received[layer.nodes].double()
                table[row, first : first + len(some)] = sums.cpu().numpy()
            check_finite(float(table.sum()), "layer pairs")
            bar.update(len(some))
    names = [layer.name for layer in places]
    scale = math.nan if math.isnan(beta.beta_eff) else beta.denominator / unit
    return pd.DataFrame(table / scale + 0.0, index=pd.Index(names, name="layer"), columns=pd.Index(names, name="from"))


def summary(
    P: AnyGraph, *, probes: int = PROBES, generator: torch.Generator | None = None, progress: bool = False
) -> pd.Series:
    """The metrics of the whole graph, in one Series.

    The entries are nodes, covered, edges, density, beta_eff, mean_strength, heterogeneity, symmetry, assortativity,
    acyclic, spectral_radius, reciprocity, spectral_norm, spectral_gap and stable_rank. The four from beta_eff to
    symmetry are those of :func:`~linegraph.capacitance`; nodes and edges are the numbers n and E; ``covered`` is the
    share of a network's trainable weights, biases aside, that are nodes; ``acyclic`` is that of
    :func:`~linegraph.is_acyclic`; each other entry is the result of the function of its name.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        probes: number of random vectors, 2 or more, where stable rank and reciprocity are estimated.
        generator: ``torch.Generator`` that draws them; by default one with a fixed seed.
        progress: show bars over products and probes.

    Returns:
        Series (15,) of dtype object: ``acyclic`` a bool, nodes and edges integers, the others floats. beta_eff,
        mean_strength, heterogeneity, spectral_radius and spectral_norm are in the units of P, the others without unit.
        nan stands for what is not defined (assortativity of negative couplings, ``covered`` of a graph) or takes too
        long (edges, and density, where too many edges have to be listed to be counted).

    Cost: the strengths; one product per layer to find cycles; some tens of products and 10 vectors for two singular
    values; O(E) for the entries where they are listed, otherwise ``probes`` products. With cycles, also the cost of the
    spectral radius and of the reciprocity.

    Raises:
        TypeError: if P has products only and does not know its edges.
        DataError: if ``probes`` is not an integer ≥ 2.
        ArgumentTypeError: if ``generator`` is not one of torch's.
        ConvergenceError: if the computation of a singular value or eigenvalue does not converge.
        NonFiniteError: if a product is NaN or infinite.
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.

    Source: C. Jiang et al., arXiv 2201.04194, for β_eff; for the other entries see the function of each name.

    Example:
        >>> import torch, linegraph as lg
        >>> lg.summary(lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]])))["acyclic"]
        True
    """
    P = as_coupling(P)
    beta = capacitance(P)
    n = P.num_nodes
    try:
        edges: float = P.num_edges  # an int, exact above 2⁵³ too
    except TooLargeError:
        edges = math.nan
    try:
        mixing = assortativity(P)
    except NegativeCouplingError:
        mixing = math.nan
    acyclic = is_acyclic(P)
    options: dict[str, Any] = {"probes": probes, "generator": generator, "progress": progress}
    norm, gap, rank = norm_gap_and_stable_rank(P, **options)
    returned = reciprocity(P, **options) if not acyclic else 0.0 if norm else math.nan
    return pd.Series(
        _with_plain_zeros(
            {
                "nodes": n,
                "covered": P.covered,
                "edges": edges,
                "density": edges / (n * (n - 1)) if n > 1 else 0.0,
                "beta_eff": beta.beta_eff,
                "mean_strength": beta.mean_strength,
                "heterogeneity": beta.heterogeneity,
                "symmetry": beta.symmetry,
                "assortativity": mixing,
                "acyclic": acyclic,
                "spectral_radius": 0.0 if acyclic else spectral_radius(P, progress=progress),
                "reciprocity": returned,
                "spectral_norm": norm,
                "spectral_gap": gap,
                "stable_rank": rank,
            }
        ),
        dtype=object,
    )


def _with_plain_zeros(figures: dict[str, Any]) -> dict[str, Any]:
    """The same figures with −0.0 replaced by 0.0, as it comes from 0 divided by a negative number."""
    return {name: value + 0.0 if isinstance(value, float) else value for name, value in figures.items()}


class _Norms(NamedTuple):
    """Norms of the rows P_ℓ of a layer, with their standard errors.

    Attributes:
        frobenius: ‖P_ℓ‖_F.
        stable_rank: ‖P_ℓ‖_F² / ‖P_ℓ‖₂²; nan if P_ℓ is 0.
        squares_error: relative standard error of ‖P_ℓ‖_F².
        rank_error: standard error of the stable rank.
    """

    frobenius: float = 0.0
    stable_rank: float = math.nan
    squares_error: float = 0.0
    rank_error: float = 0.0

    def effective_degree(self, received: Tensor) -> float:
        """Σ δ_in,i² / ‖P_ℓ‖_F²."""
        return float((received / self.frobenius).square().sum()) if self.frobenius else 0.0


def _layer_norms(
    P: Coupling, places: tuple[Layer, ...], probes: int, generator: torch.Generator | None, progress: bool
) -> list[_Norms]:
    """The norms of each layer: from the entries of P where these are cheap to list, otherwise estimated."""
    if (matrix := entries(P)) is not None:
        return [_exact_norms(matrix[layer.nodes], P.device, progress) for layer in places]
    A, unit = normalized(P, "diagnose")
    return [_estimated_norms(gram, unit) for gram in _gram_matrices(A, places, probes, generator, progress)]


def _exact_norms(rows: csr_array, device: torch.device, progress: bool) -> _Norms:
    largest = float(np.abs(rows.data).max(initial=0.0))
    if not largest:
        return _Norms()
    # Columns of zeros are left out, and rows or columns of zeros are added to make the matrix square.
    sources, columns = np.unique(rows.indices, return_inverse=True)
    n = max(rows.shape[0], len(sources))
    indptr = np.pad(rows.indptr, (0, n - rows.shape[0]), mode="edge")
    square = graph_of(csr_array((rows.data / largest, columns, indptr), shape=(n, n)), device)
    frobenius = float(np.linalg.norm(rows.data / largest))
    return _Norms(frobenius * largest, (frobenius / spectral_norm(square, progress=progress)) ** 2)


def _estimated_norms(gram: np.ndarray, unit: float) -> _Norms:
    """Norms estimated from the Gram matrix of the columns P_ℓ Ω / unit, with random signs Ω."""
    m = len(gram)
    squares = np.diag(gram)
    mean = float(squares.mean())
    if not mean:
        return _Norms()
    groups = np.array_split(np.arange(m), min(m, GROUPS))
    without = [np.delete(np.delete(gram, group, 0), group, 1) for group in groups]
    ranks = np.array([_rank_of_sketch(part) for part in without])
    return _Norms(
        math.sqrt(mean) * unit,
        _rank_of_sketch(gram),
        float(squares.std(ddof=1)) / math.sqrt(m) / mean,
        math.sqrt((len(groups) - 1) * ranks.var()),  # of the jackknife
    )


def _gram_matrices(
    P: Coupling, places: tuple[Layer, ...], probes: int, generator: torch.Generator | None, progress: bool
) -> list[np.ndarray]:
    """The Gram matrices (P_ℓ Ω)ᵀ(P_ℓ Ω) of all layers, each (probes, probes), from one set of products P Ω.

    A Gram matrix needs all columns at once, so n · probes numbers are in memory, in P's dtype.
    """
    received = [P.matvec(signs) for signs in random_signs(P, probes, generator, progress=progress)]
    found = []
    for layer in places:
        block = torch.cat([part[layer.nodes] for part in received], 1)
        check_finite(float(block.sum(dtype=torch.float64)), "diagnose")
        found.append((block.mT.double() @ block.double()).cpu().numpy())
    return found


def _rank_of_sketch(gram: np.ndarray) -> float:
    """An estimate of ‖A‖_F² / ‖A‖₂² from the Gram matrix of A Ω."""
    m = len(gram)
    return float(np.trace(gram)) / m / _squared_norm(gram) if gram.any() else math.nan


def _squared_norm(gram: np.ndarray) -> float:
    """An estimate of ‖A‖₂² from the Gram matrix of A Ω."""
    m = len(gram)
    values = np.linalg.eigvalsh(gram)[::-1] / m
    # In the spiked model, the largest eigenvalue of a covariance matrix is estimated from the eigenvalues l of a sample
    # covariance matrix by 1 / (mean over j > 1 of 1/(l₁ − l_j)).
    gaps = values[0] - values[1:]
    return float(m / np.sum(1 / gaps)) if len(gaps) and gaps.min() > 0 else float(values[0])
