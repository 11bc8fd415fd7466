"""``linegraph analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from linegraph.cli.errors import note
from linegraph.cli.options import Common, DataOptions, Kinds, ModelOptions, Network, NetworkOptions, Samples
from linegraph.cli.output import Output

__all__ = ["analyze"]


def analyze(
    common: Common,
    out: Annotated[Path, Option(help="Folder for tables, figures and the page report.html.")],
    options: ModelOptions,
    data: DataOptions,
    read: NetworkOptions,
    network: Network = None,
    kind: Kinds = None,
    samples: Samples = 512,
    values: Annotated[int, Option(min=1, help="Number of singular values.")] = 20,
) -> None:
    """Compute everything of a network or a graph: tables, figures, and one page with all of them.

    linegraph analyze --model digits:cnn-8 --out runs/cnn-8
    """
    from linegraph.cli.couplings import subject
    from linegraph.cli.threads import limited

    title, size, couplings = subject(network, read, options, data, samples, kind)
    results = Output("analyze", as_json=common.json, out=out)
    results.value("of", title)
    with limited(common.threads, size):
        for name, make in couplings.items():
            several = len(couplings) > 1
            _analyze(make(), f"{title}, {name}" if several else title, f"_{name}" if several else "", values, results)
    results.finish()


def _analyze(P: Any, of: str, after: str, values: int, results: Output) -> None:
    import pandas as pd

    import linegraph as lg
    from linegraph.coupling.neural import NeuralCoupling
    from linegraph.progress import is_watched

    watched = is_watched()

    def begin(step: str) -> None:
        if watched:
            note(f"{of}: {step}")

    if isinstance(P, NeuralCoupling):
        results.table(f"coverage{after}", P.coverage(), f"Every parameter of {of}, its role, and why")
    begin("capacitance")
    results.table(f"capacitance{after}", pd.Series(lg.capacitance(P).as_dict()), f"Capacitance of {of}")
    begin("layers")
    layers = lg.diagnose(P, progress=watched)
    results.table(f"layers{after}", layers, f"Layers of {of}")
    results.figure(f"layers{after}", lg.plot.layer_bars(layers))
    if len(layers) > 1:
        begin("pairs of layers")
        pairs = lg.layer_pairs(P, progress=watched)
        results.table(f"layer_pairs{after}", pairs.reset_index(), f"Contributions of pairs of layers to β_eff, {of}")
        results.figure(f"layer_pairs{after}", lg.plot.layer_pairs(pairs))
    begin("summary of the whole graph")
    results.table(f"summary{after}", lg.summary(P, progress=watched), f"The whole graph of {of}")
    begin("strengths")
    axes = None
    for direction in ("in", "out"):
        found = lg.strength_distribution(P, direction=direction)
        if (found.values > 0).any():
            axes = lg.plot.strength_ccdf(found, axes)
    if axes is not None:
        results.figure(f"strengths{after}", axes)
    begin("singular values")
    singular = lg.singular_values(P, min(values, P.num_nodes), progress=watched)
    ranked = pd.DataFrame({"rank": range(1, len(singular) + 1), "value": singular.tolist()})
    results.table(f"singular_values{after}", ranked, f"Largest singular values of {of}")
    if singular[0] > 0:
        results.figure(f"singular_values{after}", lg.plot.singular_values(singular))
    begin("spectral density")
    density = lg.spectral_density(P, progress=watched)
    results.data(f"spectral_density{after}", pd.DataFrame({"node": density.nodes, "weight": density.weights}))
    results.figure(f"spectral_density{after}", lg.plot.spectral_density(density))
