"""The page of a ranking of candidate networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from linegraph import plot
from linegraph.arguments import check_number_of, check_seed, check_type
from linegraph.errors import DataError
from linegraph.report.page import Page
from linegraph.report.sections import add_figure, attempt
from linegraph.selection.methods import METHODS, Method, selection_methods
from linegraph.selection.predictors import Prediction
from linegraph.selection.ranking import rank_correlations

__all__ = ["ranking"]

READING = """
The table is ordered by its first method. Candidates that were trained for fewer epochs, since successive halving
dropped them, come after the others, and those that failed come last.

A predicted accuracy is an estimate from a few epochs. Its interval covers 95 % of a normal distribution around it, as
the method states its own error; the intervals of “combined” were calibrated on recorded runs of other networks on other
tasks, and say less about networks or tasks that differ from all of these. Where intervals overlap, the order of two
candidates is uncertain: train the candidates at the top further before choosing among them.

A score has no unit, and only orders candidates. Lower values of some scores are better, as the table of methods says.

β_eff is the neural capacitance after the last epoch used. Its size depends on the network, so that values of different
candidates do not compare with each other; what the method “capacitance” reads is its change over the epochs of one
candidate. The accuracies are those on the validation data. They depend on the seed, on the learning rate and on the
number of epochs, and all candidates were trained by the same recipe, which may suit some better than others.
"""


def ranking(
    table: pd.DataFrame,
    *,
    title: str = "Ranking of candidate networks",
    settings: Mapping[str, Any] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Page:
    """A page of a ranking: the order with intervals, methods, failures, training, costs, and how to read it.

    If the table has the true final accuracies, the page also has the agreement of each method with them. The history
    and the costs are those in the ``attrs`` of the table, which some operations of pandas lose; their sections are then
    left out.

    Args:
        table: what :func:`~linegraph.rank` returns.
        title: the title of the page.
        settings: names with values of the settings of the ranking, such as its seed, for the end of the page.
        resamples: number of bootstrap resamples of candidates for the intervals of the agreement.
        seed: seed of the resampling.

    Returns:
        The page; :meth:`Page.write` writes it.

    Raises:
        ArgumentTypeError: if an argument is of the wrong type; names it.
        DataError: if the table has not the columns of a ranking, or a number is out of its range.

    Cost: some seconds; most of it is the bootstrap, if there are true accuracies.

    Source: the table of :func:`~linegraph.rank`; C. Jiang et al., arXiv 2201.04194, for accuracy against capacitance.

    Example:
        >>> import pandas as pd, linegraph as lg
        >>> table = pd.DataFrame({"name": ["a", "b"], "last_seen": [0.9, 0.8], "epochs": 3, "error": None})
        >>> lg.report.ranking(table).lead
        '2 candidate networks, ordered by the method “last_seen” from the first 3 epochs.'
    """
    check_type("table", table, pd.DataFrame, "a pandas DataFrame, such as lg.rank(...) returns")
    if missing := [name for name in ("name", "epochs", "error") if name not in table]:
        raise DataError(f"the table has no column {missing[0]!r}; such a table is made by lg.rank")
    check_number_of("resamples", resamples)
    check_seed(seed)
    methods = [METHODS[column] for column in table if column in METHODS]
    trained = table[table["epochs"] > 0]
    page = Page(title, lead=_lead(table, trained, methods), settings=settings)
    page.facts(_facts(table, trained, methods))
    page.heading("Ranking")
    _add_order(page, table, methods)
    _add_failures(page, table)
    if "final" in table and trained["final"].notna().any():
        page.heading("Agreement with the true accuracy")
        attempt(page, "Agreement", lambda: _add_agreement(page, table, methods, resamples, seed))
    history = table.attrs.get("history")
    if isinstance(history, pd.DataFrame) and len(history):
        page.heading("Training")
        _add_curves(page, history)
    page.heading("Methods")
    _add_methods(page, table, methods)
    page.heading("How to read this page")
    page.text(READING)
    return page


def _lead(table: pd.DataFrame, trained: pd.DataFrame, methods: list[Method]) -> str:
    if not len(trained):
        return "No candidate could be trained."
    epochs = int(trained["epochs"].max())
    by = f" by the method “{methods[0].name}”" if methods else ""
    return f"{len(table)} candidate networks, ordered{by} from the first {epochs} epoch{'s' if epochs > 1 else ''}."


def _facts(table: pd.DataFrame, trained: pd.DataFrame, methods: list[Method]) -> dict[str, Any]:
    facts: dict[str, Any] = {"candidates": len(table), "failed": len(table) - len(trained)}
    if metric := table.attrs.get("metric"):
        facts["metric"] = metric
    if not len(trained):
        return facts
    facts |= {"epochs": int(trained["epochs"].max()), "first": trained["name"].iloc[0]}
    if methods and methods[0].gives == "accuracy and std":
        first = _with_interval(trained, methods[0])
        best = first.iloc[0]
        facts["its predicted accuracy"] = f"{best.iloc[0]:.3f} ({best.iloc[1]:.3f} to {best.iloc[2]:.3f})"
        facts["others whose interval overlaps"] = int((first.iloc[1:, 2] >= best.iloc[1]).sum())
    return facts


def _with_interval(table: pd.DataFrame, method: Method) -> pd.DataFrame:
    """The predictions of a method with the ends of their 95 % intervals, within 0 and 1."""
    values, stds = table[method.name].astype(float), table[f"{method.name}_std"].astype(float)
    low, high = Prediction(values, stds).interval  # type: ignore[arg-type]
    ends = {f"{method.name} from": low.clip(0, 1), f"{method.name} to": high.clip(0, 1)}  # type: ignore[attr-defined]
    return pd.DataFrame({method.name: values, **ends})


def _add_order(page: Page, table: pd.DataFrame, methods: list[Method]) -> None:
    shown = pd.DataFrame({"place": range(1, len(table) + 1), "name": table["name"]}, index=table.index)
    for number, method in enumerate(methods):
        with_interval = number == 0 and f"{method.name}_std" in table
        shown = shown.join(_with_interval(table, method) if with_interval else table[[method.name]])
    for column in ("final", "beta_eff", "epochs"):
        if column in table:
            shown[column] = table[column]
    note = (
        "Best first. “from” and “to” are the ends of the 95 % interval of the column before; the data to download have "
        "the standard deviations of all methods."
    )
    page.table("Candidates", shown.reset_index(drop=True), data=table.reset_index(drop=True), note=note)
    predicted = [method.name for method in methods if method.predicts]
    trained = table[table["epochs"] > 0]
    if predicted and len(trained):
        drawn = [column for column in table if str(column).removesuffix("_std") in [*predicted, "final"]]
        attempt(
            page,
            "Predicted accuracies",
            lambda: add_figure(
                page,
                "Predicted accuracies",
                lambda: plot.ranking(trained),
                data=trained[["name", *drawn]],
                caption="Predicted final accuracies of the candidates that were trained, the best at the top.",
            ),
        )


def _add_failures(page: Page, table: pd.DataFrame) -> None:
    wrong = table[table["error"].notna() & (table["error"] != "")]
    if not len(wrong):
        page.text("No candidate failed, and every method has a value for every candidate.")
        return
    what = ["failed" if not epochs else "has no value of a method" for epochs in wrong["epochs"]]
    shown = pd.DataFrame({"name": wrong["name"], "what": what, "why": wrong["error"]}).reset_index(drop=True)
    page.table("Failures", shown, note="Candidates that failed, or for which a method has no value, and why.")


def _add_agreement(page: Page, table: pd.DataFrame, methods: list[Method], resamples: int, seed: int) -> None:
    found = rank_correlations(table, [method.name for method in methods], resamples=resamples, seed=seed)
    names = {"spearman_rho": "Spearman ρ", "spearman_rho_low": "from", "spearman_rho_high": "to"}
    names |= {"pairwise_accuracy": "pairwise accuracy", "mean_abs_error": "mean absolute error"}
    shown = found[["method", "candidates", *list(names)[:3], "regret", *list(names)[3:]]].rename(columns=names)
    note = (
        "Over the candidates that were trained fully. “from” and “to” are the ends of the 95 % interval of the rank "
        f"correlation by {resamples:,} bootstrap resamples of candidates; with few candidates it is wide. A positive "
        "ρ is a right order. The regret is the accuracy lost by taking the first candidate, the pairwise accuracy the "
        "share of pairs in the right order. The data to download have further measures, each with its interval."
    )
    page.table("Agreement", shown, data=found, note=note)
    predicted = [method.name for method in methods if method.predicts]
    if predicted:
        data = table[["name", "final", *predicted]].dropna(subset=["final"])
        caption = "Predicted against true final accuracy. On the line, a prediction is right."
        draw = lambda: plot.predicted_against_true(table)  # noqa: E731
        attempt(
            page,
            "Predicted against true",
            lambda: add_figure(page, "Predicted against true", draw, data=data, caption=caption),
        )


def _add_curves(page: Page, history: pd.DataFrame) -> None:
    attempt(
        page,
        "Learning curves",
        lambda: add_figure(
            page,
            "Learning curves",
            lambda: plot.capacitance_over_training(history, column="accuracy"),
            data=history[["name", "epoch", "accuracy"]],
            caption="The metric on the validation data after each epoch.",
        ),
    )
    if "beta_eff" in history:
        data = history[["name", "epoch", "beta_eff", "accuracy"]]
        caption = (
            "Accuracy against the neural capacitance β_eff, which is divided by its value in the first epoch. Training "
            "moves β_eff towards 0; the method “capacitance” extrapolates each line to 0."
        )
        attempt(
            page,
            "Accuracy against capacitance",
            lambda: add_figure(
                page,
                "Accuracy against capacitance",
                lambda: plot.accuracy_against_capacitance(history),
                data=data,
                caption=caption,
            ),
        )
    last = history.groupby("name", sort=False).tail(1).reset_index(drop=True)
    columns = [c for c in ("name", "epoch", "accuracy", "loss", "valid_loss") if c in history]
    note = "The last epoch of each candidate that was trained; the data to download have all epochs and all columns."
    page.table("Last epochs", last[columns], data=history, note=note)


def _add_methods(page: Page, table: pd.DataFrame, methods: list[Method]) -> None:
    if not methods:
        page.text("The table has no column of a selection method.")
        return
    known = selection_methods().loc[[method.name for method in methods]]
    known["better"] = ["higher" if higher else "lower" for higher in known["higher_is_better"]]
    columns = ["formula", "source", "gives", "better", "needs"]
    page.table("What each method is", known[columns], note="The first one orders the candidates.")
    costs = table.attrs.get("methods")
    if isinstance(costs, pd.DataFrame) and len(costs):
        note = (
            "Seconds are the mean time of the evaluation for a candidate, without training. Training steps are what a "
            "method costs in steps on a batch: the training and the records of P that it reads, and its own passes."
        )
        page.table("Costs", costs.rename(columns={"training_steps": "training steps"}), note=note)
