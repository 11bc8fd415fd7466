"""docs/coverage.md: which networks are covered by which kind, as found by trying each.

python -m tests.coverage_table    # writes it anew
"""

from pathlib import Path

import torch

import linegraph as lg
from linegraph.coupling.kinds import COUPLING_KINDS
from linegraph.errors import UnsupportedOperationError
from tests.cases import CASES
from tests.coupling.test_models import GRAPH_LAYERS, HUGGING_FACE, graph_network, logits_loss

FILE = Path(__file__).parents[1] / "docs" / "coverage.md"

HEAD = """# What is covered

Written by `python -m tests.coverage_table`, which tries every kind of coupling on every network of the tests; a test
keeps it so. *Synapses in* are the operations in which trainable weights of two or more dimensions were met; all of
them are nodes. Where a kind is not available, its error names the operation on the path and the way round it.

"""


def networks():
    """Name, what it is, and (model, loss, data) of every network; the model in double precision."""
    for name, case in CASES.items():
        model, loss, data = case.make()
        about = (type(model).__doc__ or "") if type(model).__module__ == "tests.cases" else ""
        yield name.replace("_", " "), about.split("\n")[0].rstrip("."), (model, loss, data)
    for layer in GRAPH_LAYERS:
        yield layer, "PyTorch Geometric", (*graph_network(layer),)
    import transformers

    for make in HUGGING_FACE.values():
        torch.manual_seed(0)
        model, data = make(transformers)
        yield type(model).__name__, "Hugging Face", (model.double().eval(), logits_loss, data)


def row(name, about, made):
    synapses = lg.NeuralCoupling(*made)
    cells = [f"{name}: {about}" if about else name, ", ".join(sorted({s.op for s in synapses.synapses}))]
    for kind in COUPLING_KINDS:
        options = {"probes": 2} if kind == "energy" else {}
        try:
            lg.NeuralCoupling(*made, kind=kind, **options).in_strength()
            cells.append("yes")
        except UnsupportedOperationError:
            cells.append("no")
    return f"| {' | '.join(cells)} |"


def table():
    columns = ["network", "synapses in", *COUPLING_KINDS]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return HEAD + "\n".join(lines + [row(*network) for network in networks()]) + "\n"


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
