"""``linegraph diagnose``."""

from __future__ import annotations

from linegraph.cli.options import Common, DataOptions, GraphFile, Kinds, ModelOptions, NetworkOptions, Out, Samples
from linegraph.cli.output import Output

__all__ = ["diagnose"]


def diagnose(
    common: Common,
    options: ModelOptions,
    data: DataOptions,
    read: NetworkOptions,
    network: GraphFile = None,
    kind: Kinds = None,
    samples: Samples = 512,
    out: Out = None,
) -> None:
    """Compute strengths, contributions to β_eff and ranks of every layer, and metrics of the whole graph.

    linegraph diagnose --model digits:cnn-8
    """
    import linegraph as lg
    from linegraph.cli.couplings import subject
    from linegraph.cli.threads import limited
    from linegraph.progress import is_watched

    found = subject(network, read, options, data, samples, kind)
    results = Output("diagnose", as_json=common.json, out=out)
    results.value("of", found.title)
    with limited(common.threads, found.size):
        for name, make in found.couplings.items():
            P = make()
            several = len(found.couplings) > 1
            of, after = (f"{found.title}, {name}", f"_{name}") if several else (found.title, "")
            results.table(f"layers{after}", lg.diagnose(P, progress=is_watched()), f"Layers of {of}")
            results.table(f"summary{after}", lg.summary(P, progress=is_watched()), f"The whole graph of {of}")
    results.finish()
