"""A network at a glance: one row per synapse layer, and the figures of the whole graph."""

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
"""Of probes, left out in turn: single ones change a largest eigenvalue too little to tell how it varies."""


def diagnose(
    P: AnyGraph, *, probes: int = PROBES, generator: torch.Generator | None = None, progress: bool = False
) -> pd.DataFrame:
    """One row per synapse layer, in the order of the model; a graph without layers is one row.

    Columns, with sums and means over the synapses i of the layer ℓ:

    ===================  ===================================================================================
    layer, op            name of the parameter and the operation it enters
    synapses             number of nodes
    in_strength          Σ δ_in,i: the influence the layer receives
    out_strength         Σ δ_out,i: the influence it exerts
    mean_in_strength     in_strength / synapses
    mean_out_strength    out_strength / synapses
    share                in_strength / 1ᵀP1
    beta                 Σ δ_out,i δ_in,i / 1ᵀP1: what walks of two steps through this layer, from the layers after
                         to those before it, contribute to β_eff; the column sums to β_eff.
                         :func:`layer_pairs` splits it further
    effective_degree     Σ δ_in,i² / ‖P_ℓ‖_F²: the number of couplings into a synapse if they were equal, the mean over
                         synapses weighted by Σ_j P_ij²; fewer where few couplings dominate or signs cancel
    stable_rank          ‖P_ℓ‖_F² / ‖P_ℓ‖₂², P_ℓ the rows of the layer: how many patterns of influence reach it
    ..._error            standard errors of the last two; 0 where they are exact
    ===================  ===================================================================================

    Norms are exact of a graph, of a network whose line graph has up to a million edges, and of any coupling of up to
    256 nodes: they are those of the entries. Otherwise they are estimated from ``probes`` random sign vectors ε, the
    same for all layers: ‖P_ℓ‖_F² = E‖(P ε)_ℓ‖², and ‖P_ℓ‖₂² from the Gram matrix of the columns (P ε)_ℓ by the formula
    for spiked covariances of Bai and Ding. Standard errors are those over probes, of the rank by the jackknife over
    groups of them. With 16 probes the stable rank comes out within some 15 % where the leading singular value stands
    apart, and, beyond its standard error, too small where many are equal (half of 20, a quarter of 100);
    :func:`~linegraph.stable_rank` of all of P solves for the norm instead. Where a layer receives nothing,
    effective_degree is 0 and stable_rank nan; share and beta are nan where 1ᵀP1 vanishes.

    Args:
        P: any coupling.
        probes: random vectors, where they are needed.
        generator: draws them; by default a fixed seed.
        progress: show a bar over probes.

    Cost: four products; then that of the entries, and of a singular value of each layer's; or ``probes`` products, in
    blocks of 4, and ``probes`` vectors of memory: for a ResNet-50 (23.5 million synapses, 16 images of 64x64) about
    30 s on two cores and 3 GB.

    Raises:
        NonFiniteError: if a product is NaN or infinite.

    Source: Z. Bai, X. Ding, Random Matrices: Theory and Applications 1 (2012), for the norm.

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
    check_probes(probes)
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
    """What each pair of layers contributes to β_eff: rows ℓ influenced by columns m.

        B[ℓ, m] = Σ_{i in ℓ, j in m} δ_out,i P_ij / 1ᵀP1

    Walks of two steps that start in layer m and pass through ℓ. Rows sum to the column ``beta`` of
    :func:`diagnose`, the whole table to β_eff.

    Cost: the strengths and one product per layer, in blocks of 4 that take 4 vectors each. Numbers of the table that
    are exactly 0 are pairs that no path joins.

    Returns:
        DataFrame (layers, layers); nan throughout where 1ᵀP1 vanishes.

    Raises:
        NonFiniteError: if a product is NaN or infinite.

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
    with counting(progress, total=len(places), unit="layer") as bar:
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
    """The figures of the whole graph.

    nodes, edges, density; beta_eff, mean_strength, heterogeneity, symmetry (:func:`~linegraph.capacitance`);
    assortativity; acyclic, spectral_radius, reciprocity (no iteration where the graph is acyclic); spectral_norm,
    spectral_gap, stable_rank. Each is that of the function of its name. What is not defined for this coupling
    (assortativity of negative couplings, edges that can only be counted one by one) is nan.

    Cost: the strengths, one product per layer to find whether there are cycles, some tens of products for two singular
    values with a basis of 10 vectors, and the entries where they cost little, else ``probes``; with cycles, also those
    of the spectral radius and the reciprocity.

    Args:
        P: any coupling.
        probes: random vectors behind stable rank and reciprocity, where these are estimates.
        generator: draws them; by default a fixed seed.
        progress: show bars over products and probes.

    Raises:
        ConvergenceError: if a spectral figure does not converge.
        NonFiniteError: if a product is NaN or infinite.

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
    """A row of a table where a sum of zeros, or 0 over a negative number, is 0.0 and not −0.0."""
    return {name: value + 0.0 if isinstance(value, float) else value for name, value in figures.items()}


class _Norms(NamedTuple):
    """Of the rows P_ℓ of a layer.

    Attributes:
        frobenius: ‖P_ℓ‖_F.
        stable_rank: ‖P_ℓ‖_F² / ‖P_ℓ‖₂²; nan where P_ℓ is 0.
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
    """From the entries where they cost little, else estimated."""
    if (matrix := entries(P)) is not None:
        return [_exact_norms(matrix[layer.nodes], P.device, progress) for layer in places]
    A, unit = normalized(P, "diagnose")
    return [_estimated_norms(gram, unit) for gram in _gram_matrices(A, places, probes, generator, progress)]


def _exact_norms(rows: csr_array, device: torch.device, progress: bool) -> _Norms:
    largest = float(np.abs(rows.data).max(initial=0.0))
    if not largest:
        return _Norms()
    # Columns of zeros are left out, and what remains is filled up to a square.
    sources, columns = np.unique(rows.indices, return_inverse=True)
    n = max(rows.shape[0], len(sources))
    indptr = np.pad(rows.indptr, (0, n - rows.shape[0]), mode="edge")
    square = graph_of(csr_array((rows.data / largest, columns, indptr), shape=(n, n)), device)
    frobenius = float(np.linalg.norm(rows.data / largest))
    return _Norms(frobenius * largest, (frobenius / spectral_norm(square, progress=progress)) ** 2)


def _estimated_norms(gram: np.ndarray, unit: float) -> _Norms:
    """From the Gram matrix of the columns P_ℓ Ω / unit."""
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
    """For each layer (P_ℓ Ω)ᵀ(P_ℓ Ω), (probes, probes), from one set of products P Ω.

    For that the columns must meet each other, so all n · probes numbers are kept, in P's dtype.
    """
    received = [P.matvec(signs) for signs in random_signs(P, probes, generator, progress=progress)]
    found = []
    for layer in places:
        block = torch.cat([part[layer.nodes] for part in received], 1)
        check_finite(float(block.sum(dtype=torch.float64)), "diagnose")
        found.append((block.mT.double() @ block.double()).cpu().numpy())
    return found


def _rank_of_sketch(gram: np.ndarray) -> float:
    """‖A‖_F² / ‖A‖₂² from the Gram matrix of A Ω."""
    m = len(gram)
    return float(np.trace(gram)) / m / _squared_norm(gram) if gram.any() else math.nan


def _squared_norm(gram: np.ndarray) -> float:
    """‖A‖₂² from the Gram matrix of A Ω."""
    m = len(gram)
    values = np.linalg.eigvalsh(gram)[::-1] / m
    # Bai and Ding, of the eigenvalues l of a sample covariance: α = 1 / mean over j > 1 of 1/(l₁ − l_j).
    gaps = values[0] - values[1:]
    return float(m / np.sum(1 / gaps)) if len(gaps) and gaps.min() > 0 else float(values[0])
