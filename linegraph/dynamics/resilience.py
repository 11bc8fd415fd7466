"""The state of a network as a function of the share of nodes, links or weight lost; can be interrupted and resumed."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from linegraph.arguments import (
    as_path,
    as_real,
    check_executor,
    check_number_of,
    check_seed,
    check_tolerance,
    check_type,
)
from linegraph.coupling.graph import GraphCoupling
from linegraph.dynamics.equilibria import solve_all
from linegraph.dynamics.models import Dynamics
from linegraph.dynamics.perturbation import largest_component, perturb, with_edges
from linegraph.dynamics.reduction import Reduced, mean_field_state, reduce
from linegraph.dynamics.solvers.methods import check_method
from linegraph.dynamics.terms import check_is_dynamics
from linegraph.errors import ConvergenceWarning, DataError
from linegraph.files import remove_stale, write_whole
from linegraph.identity import Settings, agree, describe, digest
from linegraph.io.accept import AnyGraph
from linegraph.progress import counting

__all__ = ["LOSSES", "resilience_curve"]

LOSSES = ("nodes", "links", "weights")
"""What a network can lose; the values of ``kind``."""

COLUMNS = ["kind", "fraction", "repeat", "start", "nodes", "beta_eff", "x_eff"]
COLUMNS += ["mean_x", "x_theory", "residual", "converged"]


def resilience_curve(
    P: AnyGraph,
    model: Dynamics,
    kind: str,
    fractions: Iterable[float],
    repeats: int,
    *,
    starts: Sequence[str | float] = ("low", "high"),
    method: str = "auto",
    jitter: float = 0.5,
    seed: int = 0,
    tol: float = 1e-8,
    component: str | None = None,
    executor: Executor | None = None,
    directory: str | Path | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """x_eff and β_eff of a network that loses growing fractions of its nodes, links or weight.

    Within a repeat the losses are nested: what is lost at one fraction is lost at every larger one. All copies of a
    repeat are solved together.

    Args:
        P: the intact network: a graph, or a coupling with explicit edges.
        model: the dynamics.
        kind: what is lost: "nodes", "links" or "weights", as in :func:`~linegraph.dynamics.perturb`.
        fractions: of it, each from 0 to 1.
        repeats: number of random orders of loss.
        starts: initial states of each copy: names such as "low", or numbers for all nodes.
        method: the solver of the equilibria, as for :func:`~linegraph.dynamics.equilibrium`.
        jitter: for "weights", the random spread of the weights that tells the repeats apart; 0.5 as published.
        seed: of the random choices; repeat r does not depend on the number of repeats.
        tol: of the equilibria.
        component: "weak" or "strong" solves the largest component of each copy only, as Gao et al. do where nodes are
            lost (:func:`~linegraph.dynamics.largest_component`); None solves the whole copy.
        executor: any ``concurrent.futures`` executor; repeats run side by side. A process pool needs a model that
            pickles.
        directory: where one file per repeat is kept, from which an interrupted curve is resumed, also with more
            repeats. A file records the network, the dynamics and the settings that it belongs to.
        progress: show a bar over the repeats. None: in notebooks, and if stderr is a terminal and
            the environment variable ``CI`` is not set.

    Returns:
        One row per fraction, repeat and start: ``kind``, ``fraction``, ``repeat``, ``start``, ``nodes`` (those left),
        ``beta_eff``, ``x_eff``, ``mean_x``, ``x_theory`` (the equilibrium of the one-dimensional theory from
        that start), ``residual``, ``converged``. Where no link is left, ``beta_eff`` and ``x_eff`` are nan.

    Raises:
        UnsupportedOperationError: if the network has no explicit edges.
        DataError: if it is no coupling, an argument is out of range, the method does not apply to the model, or
            ``directory`` holds repeats with other settings, or a damaged file; names the file, and the settings that
            differ.

    Warns:
        ConvergenceWarning: if some copies reached no equilibrium; ``converged`` says which.

    Cost: one :func:`~linegraph.dynamics.equilibrium` per fraction, repeat and start.

    Source: J. Gao, B. Barzel, A.-L. Barabási, Nature 530 (2016), figures 2 and 3.

    Example:
        >>> import networkx as nx, linegraph as lg
        >>> web = nx.complete_graph(8)
        >>> curve = lg.dynamics.resilience_curve(web, lg.dynamics.Regulatory(), "links", [0, 0.9], 2)
        >>> curve.groupby(["fraction", "start"])["x_eff"].mean().round(2).to_dict()[0.0, "high"]
        6.85
    """
    if kind not in LOSSES:
        raise DataError(f"unknown kind of perturbation {kind!r}; there are {', '.join(LOSSES)}")
    graph = with_edges(P)
    check_method(method)
    check_tolerance(tol)
    check_number_of("repeats", repeats)
    check_is_dynamics(model)
    check_seed(seed)
    check_executor(executor)
    check_type("fractions", fractions, Iterable, "a list of numbers from 0 to 1")
    check_type("starts", starts, Iterable, 'a list of starts, such as ["low", 0.5]')
    starts = [starts] if isinstance(starts, str) else starts
    losses = tuple(as_real("each of the fractions", fraction, 0, 1) for fraction in fractions)
    named = tuple(start if isinstance(start, str) else as_real("each of the starts", start) for start in starts)
    spread = as_real("jitter", jitter, 0)
    plan = _Plan(graph, model, kind, losses, named, spread, int(seed), float(tol), component, method)
    if not plan.fractions:
        raise DataError("fractions must be one or more numbers from 0 to 1, got none")
    if not plan.starts:
        raise DataError("there must be at least one start, got none")
    folder = None if directory is None else as_path("directory", directory).absolute()
    done = _stored(folder, plan, repeats) if folder else {}
    waiting = [repeat for repeat in range(repeats) if repeat not in done]
    with counting(progress, total=repeats, initial=len(done), unit="repeat", desc=kind) as bar:
        for repeat, rows in _computed(plan, waiting, executor):
            done[repeat] = rows
            if folder:
                _store(_file(folder, repeat), rows, plan)
            bar.update()
    table = pd.concat([done[repeat] for repeat in range(repeats)], ignore_index=True)
    if failed := int((~table["converged"]).sum()):
        warnings.warn(f"{failed} of {len(table)} states reached no equilibrium", ConvergenceWarning, 2)
    return table


@dataclass(frozen=True)
class _Plan:
    """The arguments of one repeat, which are sent to the workers of the executor."""

    graph: GraphCoupling
    model: Dynamics
    kind: str
    fractions: tuple[float, ...]
    starts: tuple[str | float, ...]
    jitter: float
    seed: int
    tol: float
    component: str | None = None
    method: str = "auto"

    def label(self, start: str | float) -> str | float:
        """A start in its column, which holds strings where one start is a name."""
        return str(start) if any(isinstance(other, str) for other in self.starts) else start

    def settings(self) -> Settings:
        """The settings on which the numbers of a curve depend."""
        edges = digest(self.graph.num_nodes, self.graph.edge_index, self.graph.weight)
        return {
            "network": f"{self.graph.num_nodes} nodes, {self.graph.num_edges} edges #{edges[:12]}",
            "model": describe(self.model),
            "kind": self.kind,
            "fractions": list(self.fractions),
            "starts": list(self.starts),
            "jitter": self.jitter,
            "seed": self.seed,
            "tol": self.tol,
            "component": self.component,
            "method": self.method,
        }


def _computed(plan: _Plan, repeats: list[int], executor: Executor | None) -> Iterator[tuple[int, pd.DataFrame]]:
    if executor is None:
        yield from ((repeat, _repeat(plan, repeat)) for repeat in repeats)
        return
    futures = {executor.submit(_repeat, plan, repeat): repeat for repeat in repeats}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def _repeat(plan: _Plan, repeat: int) -> pd.DataFrame:
    """One random order of loss: all fractions, all starts."""
    copies = []
    for fraction in plan.fractions:
        # The same seed for every fraction: growing losses are nested.
        generator = torch.Generator().manual_seed(plan.seed + 1_000_003 * (repeat + 1))
        spread = plan.jitter if plan.kind == "weights" else 0.0
        losses: Any = {plan.kind: fraction}
        copy = perturb(plan.graph, **losses, jitter=spread, generator=generator)
        copies.append(copy if plan.component is None else largest_component(copy, plan.component))
    rows = []
    for start in plan.starts:
        ends = solve_all(copies, plan.model, start, method=plan.method, tol=plan.tol)
        for fraction, copy, found in zip(plan.fractions, copies, ends, strict=True):
            empty = not bool((copy.weight != 0).any())
            reduced = Reduced(math.nan, math.nan) if empty else reduce(copy, found.x)
            known = math.isfinite(reduced.beta_eff)
            rows.append(
                (
                    plan.kind,
                    fraction,
                    repeat,
                    plan.label(start),
                    copy.num_nodes,
                    reduced.beta_eff,
                    reduced.x_eff,
                    float(found.x.mean()) if copy.num_nodes else math.nan,
                    mean_field_state(plan.model, reduced.beta_eff, start) if known else math.nan,
                    found.residual,
                    found.converged,
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _stored(folder: Path, plan: _Plan, repeats: int) -> dict[int, pd.DataFrame]:
    """The repeats that are there already, from a folder that holds the same curve or none."""
    remove_stale(folder)
    settings, present = folder / "settings.json", plan.settings()
    if not any(folder.glob("repeat-*.json")):  # settings without repeats, as an early failure leaves, are replaced
        write_whole(settings, lambda path: path.write_text(json.dumps(present, indent=1)))
        return {}
    if not settings.exists():
        raise DataError(f"{folder} holds repeats of a curve, but no {settings.name} that says of which; remove it")
    agree(settings, _read(settings, "remove its folder, and the curve is computed anew"), present)
    return {
        repeat: _rows(_file(folder, repeat), plan, repeat)
        for repeat in range(repeats)
        if _file(folder, repeat).exists()
    }


def _rows(path: Path, plan: _Plan, repeat: int) -> pd.DataFrame:
    """A stored repeat, which must be of this curve, with the rows that it has."""
    advice = "remove it, and what it held is computed anew"
    stored = _read(path, advice)
    settings, rows = stored.get("settings"), stored.get("rows")
    if not isinstance(settings, dict) or not isinstance(rows, list):
        raise _damaged(path, "no settings and rows", advice)
    agree(path, settings, plan.settings())
    whole = [row for row in rows if isinstance(row, dict) and list(row) == COLUMNS and type(row["converged"]) is bool]
    keys = [(plan.kind, fraction, repeat, plan.label(start)) for start in plan.starts for fraction in plan.fractions]
    if len(whole) != len(rows) or [tuple(row[column] for column in COLUMNS[:4]) for row in rows] != keys:
        raise _damaged(path, f"{len(rows)} rows, not those of repeat {repeat}", advice)
    if stored.get("checksum") != _checksum(settings, rows):
        raise _damaged(path, "its rows do not have the checksum that was written with them", advice)
    return pd.DataFrame(rows)


def _read(path: Path, advice: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error), advice) from None
    if not isinstance(content, dict):
        raise _damaged(path, f"a {type(content).__name__}, not a dict", advice)
    return content


def _damaged(path: Path, why: str, advice: str) -> DataError:
    return DataError(f"{path} is damaged ({why}), or of another version of linegraph; {advice}")


def _store(path: Path, rows: pd.DataFrame, plan: _Plan) -> None:
    """Write a repeat, unless another curve has written one of its own in the meantime."""
    settings, written = plan.settings(), rows.to_dict("records")
    if path.exists():
        agree(path, _read(path, "remove it").get("settings") or {}, settings)
    # Python's JSON keeps every digit, and nan.
    text = json.dumps({"settings": settings, "rows": written, "checksum": _checksum(settings, written)})
    write_whole(path, lambda temporary: temporary.write_text(text))


def _checksum(settings: Settings, rows: list[dict[str, Any]]) -> str:
    return digest(json.dumps([settings, rows]))


def _file(folder: Path, repeat: int) -> Path:
    return folder / f"repeat-{repeat}.json"
