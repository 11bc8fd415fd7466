"""``linegraph resilience``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from linegraph.cli.errors import chosen
from linegraph.cli.options import FORMATS, Common, NetworkOptions
from linegraph.cli.output import Output

__all__ = ["resilience"]

DYNAMICS = {"mutualistic": "Mutualistic", "regulatory": "Regulatory", "sis": "SIS", "neuronal": "Neuronal"}

CLOSE = 0.1
"""Relative difference up to which the state of a copy counts as that of the theory."""

ROUNDING = 1e-8
"""Difference up to which two states are equal, the tolerance of equilibria."""


def resilience(
    common: Common,
    network: Annotated[Path, Argument(help=f"File of a graph: {FORMATS}.")],
    out: Annotated[Path, Option(help="Folder for tables, figures and stored repeats to resume.")],
    read: NetworkOptions,
    dynamics: Annotated[
        str, Option("--dynamics", "--model", help="Dynamics: mutualistic, regulatory, sis or neuronal.")
    ] = "mutualistic",
    perturb: Annotated[str, Option(help="What is lost: nodes, links or weights.")] = "nodes",
    steps: Annotated[int, Option(min=2, help="Number of fractions, evenly spaced from 0 to --most.")] = 20,
    most: Annotated[float, Option(min=0.0, max=1.0, help="Largest fraction lost.")] = 0.95,
    repeats: Annotated[int, Option(min=1, help="Number of repeats, each with its own random losses.")] = 10,
    seed: Annotated[int, Option(min=0, help="Seed of the random choices.")] = 0,
    component: Annotated[
        str | None,
        Option(help="After each loss, keep only the largest component: weak, or strong, as for gene networks."),
    ] = None,
) -> None:
    """Compute the state of a network that loses nodes, links or weight, and compare it with the one-dimensional theory.

    To resume after an interruption, run the same command again.
    """
    import linegraph as lg
    from linegraph.cli.couplings import graph
    from linegraph.cli.threads import limited
    from linegraph.dynamics.resilience import LOSSES
    from linegraph.progress import is_watched

    name = chosen("dynamics", dynamics, DYNAMICS, "--dynamics")
    chosen("perturbation", perturb, LOSSES, "--perturb")
    if component is not None:
        chosen("component", component, ("weak", "strong"), "--component")
    P = graph(network, read)
    model = getattr(lg.dynamics, DYNAMICS[name])()
    results = Output("resilience", as_json=common.json, out=out)
    with limited(common.threads, P.num_edges):
        beta = lg.capacitance(P)
        results.say(
            f"{network.name}: {P.num_nodes:,} nodes, {P.num_edges:,} edges, β_eff = {beta.beta_eff:.6g} "
            f"(mean strength {beta.mean_strength:.4g}, heterogeneity {beta.heterogeneity:.4g}, "
            f"symmetry {beta.symmetry:.3g})"
        )
        results.value("of", network.name)
        results.value("nodes", P.num_nodes)
        results.value("edges", P.num_edges)
        results.value("capacitance", beta.as_dict())
        critical = lg.dynamics.tipping_points(model)
        results.value("tipping_points", list(critical))
        listed = ", ".join(f"{b:.4g}" for b in critical) or "none"
        results.say(f"Tipping points of the one-dimensional theory, {name}: β = {listed}")
        curve = lg.dynamics.resilience_curve(
            P,
            model,
            perturb,
            [most * step / (steps - 1) for step in range(steps)],
            repeats,
            seed=seed,
            component=component,
            directory=out / "repeats",
            progress=is_watched(),
        )
    columns = ["beta_eff", "x_eff", "x_theory", "mean_x", "converged"]
    means = curve.groupby(["start", "fraction"], sort=False)[columns].mean().reset_index()
    results.table("resilience", curve, f"Means over {repeats} repeats", shown=means)
    results.table(
        "agreement",
        _agreement(curve, list(critical)),
        f"States x_eff beside those of the theory: relative differences, and copies within {CLOSE:.0%}",
    )
    results.figure("state_vs_capacity", lg.plot.state_against_capacity(curve, model))
    results.figure("state_vs_loss", lg.plot.state_against_loss(curve))
    results.finish()


def _agreement(curve: Any, critical: list[float]) -> Any:
    """How near the states of copies are to those of the theory, by start, and by the tipping points around their β_eff.

    Copies without a link, which have no β_eff, are left out.
    """
    import numpy as np

    rows = curve[curve["beta_eff"].notna()]
    ends = [f"{b:.4g}" for b in sorted(critical)]
    places = ["any"] if not ends else [f"below {ends[0]}", *map(" to ".join, pairwise(ends)), f"above {ends[-1]}"]
    place = np.digitize(rows["beta_eff"], sorted(critical))
    difference = (rows["x_eff"] - rows["x_theory"]).abs()
    difference = (difference / rows["x_theory"].abs()).where(difference > ROUNDING, 0)  # both may be 0
    found = rows.assign(place=place, difference=difference, close=difference <= CLOSE)
    table = found.groupby(["start", "place"], sort=False).agg(
        copies=("close", "size"), close=("close", "sum"), median=("difference", "median"), largest=("difference", "max")
    )
    table = table.sort_index(level="place", sort_remaining=False).reset_index()
    table.insert(1, "beta_eff", [places[number] for number in table.pop("place")])
    return table
