"""The table of a ranking: a row per candidate, with the values of the methods and the reasons of failures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from linegraph.selection.methods import Method, Score, evaluated, evaluated_together
from linegraph.selection.plan import Plan
from linegraph.selection.training import Failure, Trained, rows_up_to
from linegraph.selection.trials import Outcome

__all__ = ["of_one_metric", "ranked"]


def ranked(
    outcomes: Mapping[str, Outcome],
    plan: Plan,
    chosen: tuple[Method, ...],
    train_fully: int | None,
    other_tasks: pd.DataFrame | None,
) -> pd.DataFrame:
    """The table of a ranking, best first.

    Args:
        outcomes: the outcomes by name.
        plan: the settings.
        chosen: the methods, of which the first orders the table.
        train_fully: the number of epochs after which the accuracy is the final one; None without such a column.
        other_tasks: results on other tasks, for methods that read them.
    """
    scores = {name: _scores(name, outcome, plan, chosen, other_tasks) for name, outcome in outcomes.items()}
    for method in chosen:
        if method.arguments == "histories":
            for name, score in _scored_together(method, outcomes, plan).items():
                scores[name][method.name] = score
    rows = [_row(name, outcome, plan, scores[name], train_fully) for name, outcome in outcomes.items()]
    of_methods = [c for m in chosen for c in (m.name, f"{m.name}_std") if c == m.name or m.gives == "accuracy and std"]
    columns = ["name", *of_methods, *(["final"] if train_fully else []), "beta_eff", "epochs", "error"]
    table = pd.DataFrame(rows, columns=columns)
    # Candidates that were dropped have had fewer epochs, those that failed none.
    first = chosen[0]
    ascending = [False, not first.higher_is_better]
    table = table.sort_values(["epochs", first.name], ascending=ascending, na_position="last", ignore_index=True)
    table.attrs["metric"] = next(iter(_metrics(outcomes).values()), None)
    table.attrs["history"] = pd.DataFrame(
        [{"name": name, **row} for name, found in outcomes.items() if isinstance(found, Trained) for row in found[0]]
    )
    table.attrs["methods"] = _costs(scores, plan, chosen)
    return table


def of_one_metric(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes; candidates for whose outputs another metric was chosen than for the first one's are failures.

    Their numbers do not compare with the others.
    """
    names = _metrics(outcomes)
    first = next(iter(names.values()), None)
    others = {
        name: Failure(
            f"DataError: the metric of its outputs is {found!r}, and that of {next(iter(names))!r} is {first!r}; rank "
            "candidates with outputs of one form, or pass metric=",
            of_data=True,
        )
        for name, found in names.items()
        if found != first
    }
    return outcomes | others


def _metrics(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """The names of the metrics of the candidates that did not fail."""
    return {name: found.metric for name, found in outcomes.items() if isinstance(found, Trained)}


def _scores(
    name: str, outcome: Outcome, plan: Plan, chosen: tuple[Method, ...], other_tasks: pd.DataFrame | None
) -> dict[str, Score]:
    """The values of all methods for a candidate; none if it failed."""
    if isinstance(outcome, Failure):
        return {}
    seen = pd.DataFrame(rows_up_to(plan.epochs, outcome.history))
    later: dict[str, Callable[[], tuple[Any, ...]]] = {
        "history": lambda: (seen,),
        "name, results": lambda: (name, other_tasks),
    }
    apart = [method for method in chosen if method.arguments != "histories"]
    return {m.name: outcome.scores[m.name] if m.is_initial else evaluated(m, later[m.arguments]) for m in apart}


def _scored_together(method: Method, outcomes: Mapping[str, Outcome], plan: Plan) -> dict[str, Score]:
    """The values of a method of all histories; candidates of different numbers of epochs are not compared."""
    by_epochs: dict[int, dict[str, pd.DataFrame]] = {}
    for name, outcome in outcomes.items():
        if isinstance(outcome, Trained):
            seen = rows_up_to(plan.epochs, outcome.history)
            by_epochs.setdefault(int(seen[-1]["epoch"]), {})[name] = pd.DataFrame(seen)
    return {name: score for part in by_epochs.values() for name, score in evaluated_together(method, part).items()}


def _row(
    name: str, outcome: Outcome, plan: Plan, scores: Mapping[str, Score], train_fully: int | None
) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return {"name": name, "epochs": 0, "error": outcome.error}
    last = rows_up_to(plan.epochs, outcome.history)[-1]
    row: dict[str, Any] = {"name": name, "beta_eff": float(last["beta_eff"]), "epochs": int(last["epoch"])}
    for method, score in scores.items():
        row |= {method: score.value, f"{method}_std": score.std}
    if errors := [f"{method}: {score.error}" for method, score in scores.items() if score.error]:
        row["error"] = "; ".join(errors)
    end = outcome.history[-1]
    return row | ({"final": end["accuracy"]} if end["epoch"] == train_fully else {})


def _costs(scores: Mapping[str, Mapping[str, Score]], plan: Plan, chosen: tuple[Method, ...]) -> pd.DataFrame:
    """The time and the training steps of each method, by its name."""
    epoch, samples = plan.steps
    rows = []
    for method in chosen:
        times = [of_one[method.name].seconds for of_one in scores.values() if of_one]
        reads = plan.epochs if method.arguments in ("history", "histories") else 0
        steps = method.cost * samples * (reads or 1) + epoch * reads
        rows.append({"seconds": sum(times) / len(times) if times else math.nan, "training_steps": steps})
    return pd.DataFrame(rows, index=pd.Index([method.name for method in chosen], name="method"))
