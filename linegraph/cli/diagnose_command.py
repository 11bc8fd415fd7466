"""``linegraph diagnose``."""

from __future__ import annotations

from linegraph.cli.options import Common, DataOptions, Kinds, ModelOptions, Network, NetworkOptions, Out, Samples
from linegraph.cli.output import Output

__all__ = ["diagnose"]


def diagnose(
    common: Common,
    options: ModelOptions,
    data: DataOptions,
    read: NetworkOptions,
    network: Network = None,
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

    title, size, couplings = subject(network, read, options, data, samples, kind)
    results = Output("diagnose", as_json=common.json, out=out)
    results.value("of", title)
    with limited(common.threads, size):
        for name, make in couplings.items():
            P = make()
            of = f"{title}, {name}" if len(couplings) > 1 else title
            after = f"_{name}" if len(couplings) > 1 else ""
            results.table(f"layers{after}", lg.diagnose(P, progress=is_watched()), f"Layers of {of}")
            results.table(f"summary{after}", lg.summary(P, progress=is_watched()), f"The whole graph of {of}")
    results.finish()
