"""``linegraph analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from linegraph.cli.options import Common, DataOptions, GraphFile, Kinds, ModelOptions, NetworkOptions, Samples
from linegraph.cli.output import Output

__all__ = ["analyze"]


def analyze(
    common: Common,
    out: Annotated[Path, Option(help="Folder for report.html, one page with all tables and figures, and for these.")],
    options: ModelOptions,
    data: DataOptions,
    read: NetworkOptions,
    network: GraphFile = None,
    kind: Kinds = None,
    samples: Samples = 512,
    values: Annotated[int, Option(min=1, help="Number of singular values.")] = 20,
) -> None:
    """Compute everything of a network or a graph: one page, report.html, and its tables and figures.

    Of several kinds, the first is analysed, and all are compared.

    linegraph analyze --model digits:cnn-8 --out runs/cnn-8
    """
    import linegraph as lg
    from linegraph.cli.couplings import subject
    from linegraph.cli.threads import limited
    from linegraph.coupling.kinds import COUPLING_KINDS
    from linegraph.progress import is_watched

    found = subject(network, read, options, data, samples, kind)
    results = Output("analyze", as_json=common.json, out=out)
    results.value("of", found.title)
    with limited(common.threads, found.size):
        page = lg.report.analysis(
            next(iter(found.couplings.values()))(),
            title=f"Analysis of {found.title}",
            settings=found.settings,
            kinds=kind or COUPLING_KINDS,
            values=values,
            progress=is_watched(),
        )
    results.page(page)
    results.finish()
