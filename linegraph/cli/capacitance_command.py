"""``linegraph capacitance``."""

from __future__ import annotations

from linegraph.cli.options import Common, DataOptions, GraphFile, Kinds, ModelOptions, NetworkOptions, Out, Samples
from linegraph.cli.output import Output

__all__ = ["capacitance"]


def capacitance(
    common: Common,
    options: ModelOptions,
    data: DataOptions,
    read: NetworkOptions,
    network: GraphFile = None,
    kind: Kinds = None,
    samples: Samples = 512,
    out: Out = None,
) -> None:
    """Compute β_eff, mean strength + symmetry · heterogeneity, of a network or of the graph in a file.

    linegraph capacitance --model digits:cnn-8 --kind signed --kind magnitude
    """
    import pandas as pd

    import linegraph as lg
    from linegraph.cli.couplings import subject
    from linegraph.cli.threads import limited

    found = subject(network, read, options, data, samples, kind)
    results = Output("capacitance", as_json=common.json, out=out)
    results.value("of", found.title)
    with limited(common.threads, found.size):
        rows = []
        for name, make in found.couplings.items():
            P = make()
            rows.append({"kind": name, "nodes": P.num_nodes, **lg.capacitance(P).as_dict()})
    results.table("capacitance", pd.DataFrame(rows), f"Capacitance of {found.title}")
    results.finish()
