"""``linegraph rank``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import BadParameter, Option

from linegraph.cli.errors import chosen, note
from linegraph.cli.options import Common, DataOptions, Samples
from linegraph.cli.output import Output

__all__ = ["rank"]

PRINTED_METHODS = ["combined", "last_seen", "capacitance"]


def rank(
    common: Common,
    out: Annotated[Path, Option(help="Folder for tables, figures and stored runs to resume.")],
    data: DataOptions,
    model: Annotated[
        list[str] | None,
        Option(
            help="A candidate, [name=]model, several by several --model: module:function (or file.py:function) that "
            "returns a network, or a dict of such functions; the folder of a model of Hugging Face, hf:name or "
            "timm:name, which get a new head; digits:name. Default: the ten candidates for digits.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        Option(help="[name=]file of the weights of a candidate, which then gets a new head.", show_default=False),
    ] = None,
    loss: Annotated[
        str, Option(help="Loss by its name in torch.nn.functional, or module:function of (outputs, targets).")
    ] = "cross_entropy",
    epochs: Annotated[int, Option(min=1, help="Number of epochs to predict the final accuracy from.")] = 5,
    train_fully: Annotated[
        bool, Option("--train-fully", help="Train on to --final-epochs, for the true final accuracy.")
    ] = False,
    final_epochs: Annotated[int, Option(min=1, help="Epochs of full training, with --train-fully.")] = 30,
    method: Annotated[
        list[str] | None,
        Option(help="Method, several by several --method; the first orders. Default: " + ", ".join(PRINTED_METHODS)),
    ] = None,
    halving: Annotated[
        float | None, Option(help="From the third epoch on, train only the better 1/halving further, again and again.")
    ] = None,
    metric: Annotated[str | None, Option(help="Metric, called accuracy; default: that of the task.")] = None,
    kind: Annotated[str, Option(help="Kind of coupling: magnitude, energy, flow or signed.")] = "magnitude",
    batch_size: Annotated[int, Option(min=1, help="Batch size.")] = 64,
    samples: Samples = 512,
    seed: Annotated[int, Option(min=0, help="Seed of weights and batch order.")] = 0,
) -> None:
    """Rank candidate networks by the final accuracy predicted from their first epochs.

    To resume after an interruption, run the same command again.

    linegraph rank --model small=nets:small --model large=nets:large --data images/ --out runs/images
    """
    import linegraph as lg
    from linegraph.cli import models
    from linegraph.cli.data import load
    from linegraph.cli.threads import limited
    from linegraph.coupling.kinds import COUPLING_KINDS
    from linegraph.errors import DataError
    from linegraph.progress import is_watched
    from linegraph.selection.candidates import digits_candidates

    chosen("kind", kind, COUPLING_KINDS, "--kind")
    methods = list(method or PRINTED_METHODS)
    for one in methods:
        chosen("method", one, lg.selection_methods().index, "--method")
    if train_fully and final_epochs < epochs:
        raise BadParameter(f"must be at least --epochs ({epochs})", param_hint="--final-epochs")
    loss_fn = models.loss(loss)
    whole = load(data, loss, model or ())
    if not model and data.data not in (None, "digits"):
        raise BadParameter("name candidates for data of your own", param_hint="--model")
    candidates = models.candidates(model, weights or [], seed) if model else digits_candidates()
    note(whole.description)
    if whole.valid is None:
        raise DataError(f"rank needs held-out data too, and {data.data} gives one part; return (train, valid)")
    results = Output("rank", as_json=common.json, out=out)
    final = final_epochs if train_fully else None
    with limited(common.threads, models.largest(candidates)):
        table = lg.rank(
            candidates,
            whole.train,
            whole.valid,
            epochs=epochs,
            methods=methods,
            train_fully=final,
            halving=halving,
            kind=kind,
            loss_fn=loss_fn,
            metric=metric,
            batch_size=batch_size,
            coupling_samples=samples,
            seed=seed,
            directory=out / "candidates",
            progress=is_watched(),
        )
    if not table["epochs"].any():  # all failed: earlier tables and figures are not overwritten with nothing
        raise DataError(f"no candidate could be ranked; {table['name'][0]}: {table['error'][0]}")
    results.value("data", whole.description)
    settings = {"data": whole.description, "loss": loss, "kind": kind, "batch size": batch_size, "seed": seed}
    _show(table, results, methods, epochs, final, settings | {"samples of P": samples, "halving": halving or "none"})


def _show(
    table: Any, results: Output, methods: list[str], epochs: int, final: int | None, settings: dict[str, Any]
) -> None:
    import linegraph as lg

    history, metric = table.attrs["history"], table.attrs["metric"]
    results.value("metric", metric)
    shown = table.drop(columns="error") if table["error"].isna().all() else table.fillna({"error": ""})
    what = "accuracy" if metric == "accuracy" else f"{metric}, as accuracy,"
    results.table("ranking", table, f"Final {what} predicted from {epochs} epochs, best first", shown=shown)
    if final:
        found = lg.selection.rank_correlations(table, methods)
        ends = found.filter(regex="_(low|high)$").columns  # in the file
        title = f"Agreement with the true accuracy after {final} epochs"
        results.table("correlations", found, title, shown=found.drop(columns=ends))
        results.figure("predicted_vs_true", lg.plot.predicted_against_true(table))
    results.data("history", history)
    results.figure("ranking", lg.plot.ranking(table))
    results.figure("accuracy_vs_capacitance", lg.plot.accuracy_against_capacitance(history))
    results.report(lg.report.ranking(table, settings=settings))
    results.finish()
