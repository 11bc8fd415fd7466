"""The page of a coupling: of a network's weights, or of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from linegraph import plot
from linegraph.arguments import as_tensor, check_choice, check_number_of, check_type
from linegraph.coupling.base import Coupling
from linegraph.coupling.kinds import COUPLING_KINDS
from linegraph.coupling.neural import NeuralCoupling
from linegraph.errors import LinegraphError
from linegraph.io.accept import AnyGraph, as_coupling
from linegraph.metrics.centrality import pagerank
from linegraph.metrics.diagnostics import diagnose, layer_pairs, summary
from linegraph.metrics.leading import hits
from linegraph.metrics.neural_capacitance import capacitance
from linegraph.metrics.power_law import PowerLaw
from linegraph.metrics.spectral_densities import SpectralDensity, singular_value_density, spectral_density
from linegraph.metrics.spectrum import singular_values
from linegraph.metrics.strength import StrengthDistribution, strength_distribution
from linegraph.progress import counting
from linegraph.report.page import Page
from linegraph.report.sections import add_figure, attempt

__all__ = ["analysis"]

PAIRED_LAYERS = 200
"""Layers up to which the contributions of all pairs are computed, with one product for each layer."""
TOP = 20
"""Number of nodes named in the table of the most central ones."""
FITTED = 2000
"""Strengths in a fit of a power law, which takes about a second."""
CURVE = 2000
"""Points of a distribution among its data."""
DENSITIES = ((200_000, 8, 64), (2_000_000, 4, 32))
"""For up to so many nodes, so many random vectors and Lanczos steps estimate a spectral density."""

MEANINGS = {
    "nodes": "n; of a network, the number of its synapses",
    "covered": "share of the trainable weights, biases aside, that are nodes",
    "edges": "number of couplings that the paths allow",
    "density": "edges / (n (n − 1))",
    "beta_eff": "neural capacitance, in the units of P",
    "mean_strength": "⟨s⟩ = 1ᵀP1 / n, in the units of P",
    "heterogeneity": "H = σ_in σ_out / ⟨s⟩, in the units of P",
    "symmetry": "S, correlation of in- and out-strengths",
    "assortativity": "correlation of strengths at the two ends of edges",
    "acyclic": "whether there is no cycle; then all eigenvalues of P are 0",
    "spectral_radius": "largest absolute eigenvalue, in the units of P",
    "reciprocity": "share of the weight that is returned",
    "spectral_norm": "largest singular value, in the units of P",
    "spectral_gap": "relative distance of the two largest singular values",
    "stable_rank": "‖P‖_F² / ‖P‖₂²",
}

READING = """
P is the coupling operator: entry P_ij is the influence of node j on node i. For a network the nodes are its synapses,
the trainable weights; gradient descent moves them by ẇ = b + P w. P is formed at the present weights on the data that
were given, and changes with both.

β_eff is the strength of the coupling that a typical node feels. It has the units of P, which are those of the loss, so
that values of different losses or kinds do not compare. During training that fits all samples it goes to 0; this alone
does not tell which of two networks will be better.

The kind “signed” is the P of the edge dynamics, in which positive and negative terms cancel. “magnitude” sums absolute
values, “energy” squares; “flow” weighs each entry by the weights at its ends, and does not change when the weights of a
neuron are rescaled. The line graph of a network without recurrent connections has no cycle, so that all eigenvalues of
P are 0; its singular values and the spectrum of (P + Pᵀ)/2 are shown instead.

Values said to be estimated come from random vectors with a fixed seed, and have an error. A power law is supported only
where it fits better than the alternatives, which a positive ratio with a p-value below 0.1 says; a straight line in a
figure is not enough.
"""


def analysis(
    P: AnyGraph,
    *,
    title: str | None = None,
    settings: Mapping[str, Any] | None = None,
    kinds: Iterable[str] = ("signed", "magnitude", "flow", "energy"),
    values: int = 20,
    progress: bool | None = None,
) -> Page:
    """A page of a coupling: capacitance, layers, pairs of layers, strengths, centrality, spectrum, and coverage.

    What cannot be computed, such as a centrality of couplings that may be negative, is said on the page with its
    reason. The cost is bounded: spectral densities of large couplings are estimated with fewer random vectors, and left
    out above 2 million nodes; pairs of more than 200 layers are left out. The page says so.

    Args:
        P: a coupling of n nodes, or a graph (PyG, igraph, networkx, SciPy).
        title: the title of the page; by default it says what the coupling is.
        settings: names with values of the settings, such as the model and the data, for the end of the page.
        kinds: for a network, the kinds whose capacitance is compared; a graph has one.
        values: number of singular values.
        progress: show a bar over the steps, which names each. None: in notebooks, and if stderr is a terminal and
            the environment variable ``CI`` is not set.

    Returns:
        The page; :meth:`Page.write` writes it.

    Raises:
        NotAGraphError: if P is neither a coupling nor a graph.
        StaleCouplingError: if the weights of P's network have changed since P was made.
        DataError: if ``values`` is no positive integer, or there is no such kind.
        ArgumentTypeError: if another argument is of the wrong type.

    Cost: that of :func:`~linegraph.summary`, :func:`~linegraph.diagnose` and :func:`~linegraph.layer_pairs`, some tens
    of products for centralities and singular values, and up to 1,024 for each density. On one core, perceptrons of
    three layers with 32 samples take 4 s for 100,000 synapses and 12 s for a million.

    Source: C. Jiang et al., arXiv 2201.04194, for P and β_eff; for the rest see the function of each name.

    Example:
        >>> import torch, linegraph as lg
        >>> page = lg.report.analysis(lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]])))
        >>> page.title
        'Analysis of a graph of 3 nodes'
    """
    P = as_coupling(P)
    check_type("title", title, (str, type(None)), "a string, or None")
    check_type("kinds", kinds, Iterable, "a list of kinds of coupling")
    chosen = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in chosen:
        check_choice("each of kinds", kind, COUPLING_KINDS)
    check_number_of("values", values)
    check_type("progress", progress, (bool, type(None)), "True, False or None")
    page = Page(title or _title(P), lead=_lead(P), settings={**_own_settings(P), **(settings or {})})
    steps: dict[str, Callable[[Page, Coupling], None]] = {
        "Capacitance": lambda page, P: _add_capacitance(page, P, chosen),
        "The whole graph": _add_summary,
        "Layers": _add_layers,
        "Strengths": _add_strengths,
        "Centrality": _add_centrality,
        "Spectrum": lambda page, P: _add_spectrum(page, P, values),
    }
    if isinstance(P, NeuralCoupling):
        steps["Coverage"] = _add_coverage
    with counting(progress, total=len(steps), unit="step") as bar:
        for name, add in steps.items():
            bar.set_description(name)
            page.heading(name)
            attempt(page, name, lambda add=add: add(page, P))  # type: ignore[misc]
            bar.update()
    page.heading("How to read this page")
    page.text(READING)
    return page


def _title(P: Coupling) -> str:
    if isinstance(P, NeuralCoupling):
        return f"Analysis of a network of {P.num_nodes:,} synapses"
    return f"Analysis of a graph of {P.num_nodes:,} nodes"


def _lead(P: Coupling) -> str:
    if isinstance(P, NeuralCoupling):
        return f"The line graph of {len(P.layers)} weights, with couplings of the kind “{P.kind}”."
    return "The couplings of an explicit graph."


def _own_settings(P: Coupling) -> dict[str, Any]:
    kind = {"kind": P.kind} if isinstance(P, NeuralCoupling) else {}
    return {**kind, "number type": str(P.dtype).removeprefix("torch."), "device": P.device.type}


def _add_capacitance(page: Page, P: Coupling, kinds: list[str]) -> None:
    found = capacitance(P).as_dict()
    shown = {name: value for name, value in found.items() if name not in ("numerator", "denominator")}
    page.facts({"nodes": P.num_nodes, "layers": len(P.layers), **shown})
    if not isinstance(P, NeuralCoupling):
        return
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys([P.kind, *kinds]):
        try:
            rows.append(
                {"kind": kind, **(found if kind == P.kind else capacitance(P.of_kind(kind)).as_dict()), "why": ""}
            )
        except LinegraphError as error:
            rows.append({"kind": kind, "why": str(error)})
    table = pd.DataFrame(rows).drop(columns=["numerator"], errors="ignore")
    if not table["why"].any():
        table = table.drop(columns="why")
    note = (
        "β_eff = ⟨s⟩ + S · H for each kind of coupling, at the same weights and data; the values of “energy” are "
        "estimated. An empty β_eff is 0/0, as that of “signed” with one hidden layer and cross entropy."
    )
    page.table("Capacitance by kind", table, note=note)


def _add_summary(page: Page, P: Coupling) -> None:
    found = summary(P)
    table = pd.DataFrame(
        {"measure": found.index, "value": found.to_list(), "meaning": [MEANINGS[n] for n in found.index]}
    )
    page.table("Measures", table, note="An empty value is not defined for this coupling, or takes too long to compute.")


def _add_layers(page: Page, P: Coupling) -> None:
    layers = diagnose(P)
    note = (
        "From the first layer to the last. share is the part of 1ᵀP1 that enters a layer, beta its contribution to "
        "β_eff. The data to download have further columns; those with “error” are standard errors of estimates, 0 "
        "where values are exact."
    )
    columns = [
        "layer",
        "op",
        "synapses",
        "share",
        "beta",
        "in_strength",
        "out_strength",
        "effective_degree",
        "stable_rank",
    ]
    page.table("Measures of layers", layers[columns], data=layers, note=note)
    if len(layers) < 2:
        return
    if layers["share"].notna().any():
        caption = "The part of the sum of all couplings that enters each layer."
        add_figure(
            page,
            "Share of each layer",
            lambda: plot.layer_bars(layers),
            data=layers[["layer", "share"]],
            caption=caption,
        )
    if len(layers) > PAIRED_LAYERS:
        page.text(f"Pairs of layers are left out: there are {len(layers)}, and up to {PAIRED_LAYERS} are paired.")
        return
    pairs = layer_pairs(P)
    caption = "How much the walks from one layer (column) to another (row) contribute to β_eff, to which they sum."
    add_figure(page, "Pairs of layers", lambda: plot.layer_pairs(pairs), data=pairs, caption=caption)


def _add_strengths(page: Page, P: Coupling) -> None:
    for direction in ("in", "out"):
        found = strength_distribution(P, direction=direction)
        title = f"{direction.capitalize()}-strengths"
        ends = f"{found.counts.sum():,} nodes, from {found.values[0]:.4g} to {found.values[-1]:.4g}, in the units of P."
        if not (found.values > 0).any():
            page.text(f"{title}: {ends} None is positive.")
            continue
        fit: PowerLaw | None = None
        try:
            fit = found.power_law(sample=FITTED)
            why = f" The power law is fitted to {fit.tail:,} of {fit.fitted:,} strengths."
        except LinegraphError as error:
            why = f" No power law: {error}."
        add_figure(
            page,
            title,
            lambda found=found, fit=fit: plot.strength_ccdf(found, fit=fit),  # type: ignore[misc]
            data=_curve(found),
            caption=f"The share of nodes of at least a given strength: {ends}{why}",
        )
        if fit is not None:
            table = fit.alternatives.rename_axis("alternative").reset_index()
            note = (
                f"α = {fit.alpha:.3f} ± {fit.sigma:.3f} from x_min = {fit.x_min:.4g}; Kolmogorov–Smirnov distance "
                f"{fit.distance:.3f}. A positive ratio favours the power law, a negative one the alternative; its sign "
                "means something only where p is below 0.1."
            )
            page.table(f"{title}: power law against alternatives", table, note=note)


def _curve(found: StrengthDistribution) -> pd.DataFrame:
    """The distribution at no more points than ``CURVE``, with both ends."""
    places = np.unique(np.linspace(0, len(found.values) - 1, CURVE).astype(int))
    return pd.DataFrame({"strength": found.values[places], "share": found.ccdf[places]})


def _add_centrality(page: Page, P: Coupling) -> None:
    if isinstance(P, NeuralCoupling) and not P.is_non_negative:
        page.text("These centralities need couplings ≥ 0; they are those of the kind “magnitude” at the same weights.")
        P = P.of_kind("magnitude")
    ranks, both = pagerank(P), hits(P)
    scores = {"PageRank": ranks, "HITS authority": both.authorities, "HITS hub": both.hubs}
    found = {
        name: as_tensor(name, score, "scores", device=torch.device("cpu")).double() for name, score in scores.items()
    }
    meaning = (
        "PageRank and authority are large for nodes that others influence strongly, the hub score for nodes that "
        "influence strong authorities. Each sums to 1 over all nodes."
    )
    if len(P.layers) > 1:
        rows = [
            {"layer": layer.name, "nodes": layer.size}
            | {f"{name}, sum": float(score[layer.nodes].sum()) for name, score in found.items()}
            | {f"{name}, max": float(score[layer.nodes].max()) for name, score in found.items()}
            for layer in P.layers
        ]
        page.table("Centrality per layer", pd.DataFrame(rows), note=meaning)
    add_figure(
        page,
        "PageRank of nodes",
        lambda: plot.layer_values(P, found["PageRank"], label="PageRank"),
        data=_quantiles(P, found["PageRank"]),
        caption="How the PageRank of nodes is distributed within each layer.",
    )
    best = found["PageRank"].topk(min(TOP, P.num_nodes)).indices
    table = pd.DataFrame(
        {"node": [_name(P, int(node)) for node in best]} | {n: s[best].numpy() for n, s in found.items()}
    )
    page.table(f"The {len(best)} nodes of highest PageRank", table, note="" if len(P.layers) > 1 else meaning)


def _quantiles(P: Coupling, values: torch.Tensor) -> pd.DataFrame:
    """How values over the nodes are distributed in each layer: a row per layer, a column per quantile."""
    shares = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]
    rows = [np.quantile(values[layer.nodes].numpy(), shares) for layer in P.layers]
    table = pd.DataFrame(rows, columns=[f"quantile {share:g}" for share in shares])
    table.insert(0, "layer", [layer.name for layer in P.layers])
    return table


def _name(P: Coupling, node: int) -> str:
    """The name of a node: that of the graph, or the place in the weight of a network."""
    if P.node_names is not None:
        return str(P.node_names[node])
    if isinstance(P, NeuralCoupling):
        synapse = next(s for s in P.synapses if s.offset <= node < s.offset + s.numel)
        place = np.unravel_index(node - synapse.offset, synapse.shape)
        return f"{synapse.name}[{', '.join(str(int(index)) for index in place)}]"
    return str(node)


def _add_spectrum(page: Page, P: Coupling, values: int) -> None:
    found = singular_values(P, min(values, P.num_nodes)).double().cpu()
    table = pd.DataFrame({"rank": range(1, len(found) + 1), "singular value": found.tolist()})
    if len(found) and found[0] > 0:
        caption = f"The {len(found)} largest singular values of P, in the units of P."
        add_figure(page, "Singular values", lambda: plot.singular_values(found), data=table, caption=caption)
    else:
        page.text("All singular values are 0.")
        return
    size = next(((probes, steps) for most, probes, steps in DENSITIES if P.num_nodes <= most), None)
    if size is None:
        page.text(f"Spectral densities are left out: {P.num_nodes:,} nodes are more than {DENSITIES[-1][0]:,}.")
        return
    probes, steps = size
    densities = {
        "Density of singular values": (singular_value_density, "singular values of P"),
        "Density of eigenvalues": (spectral_density, "eigenvalues of the symmetric part (P + Pᵀ)/2"),
    }
    for title, (compute, what) in densities.items():
        attempt(
            page,
            title,
            lambda title=title, compute=compute, what=what: _add_density(  # type: ignore[misc]
                page, title, compute(P, probes=probes, steps=steps), f"The density of the {what}."
            ),
        )


def _add_density(page: Page, title: str, density: SpectralDensity, caption: str) -> None:
    data = pd.DataFrame({"node": density.nodes, "weight": density.weights})
    if math.isclose(density.nodes[0], density.nodes[-1]):
        page.text(f"{title}: all are {density.nodes[0]:.4g}.")
        return
    if density.probes:
        steps = len(density.nodes) // density.probes
        caption += f" Estimated from {density.probes} random vectors of {steps} Lanczos steps each."
    add_figure(page, title, lambda: plot.spectral_density(density), data=data, caption=caption)


def _add_coverage(page: Page, P: Coupling) -> None:
    assert isinstance(P, NeuralCoupling)
    table = P.coverage()
    table["shape"] = ["×".join(map(str, shape)) or "1" for shape in table["shape"]]
    note = (
        f"Every parameter, its role in P, and why. {P.covered:.1%} of the trainable weights, biases aside, are nodes."
    )
    page.table("Parameters", table, note=note)
