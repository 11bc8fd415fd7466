import pytest
import typer

import linegraph as lg
from linegraph.cli import couplings
from linegraph.cli.options import DataOptions, ModelOptions, NetworkOptions
from linegraph.errors import DataError


@pytest.fixture(autouse=True)
def _here(run):
    """In the folder of the module ``nets``."""


DATA = DataOptions("nets:few")


def test_a_network_and_its_first_samples():
    found = couplings.network(ModelOptions("nets:Wide"), DATA, 32)
    assert len(found.sample[1]) == 32
    assert found.size == 64 * 12 + 12 * 10 + 46
    P = found.coupling("magnitude")
    assert (P.kind, P.num_nodes) == ("magnitude", 64 * 12 + 12 * 10)


def test_batches_of_a_loader():
    found = couplings.network(ModelOptions("nets:Wide"), DataOptions("nets:loader"), 60)
    assert [len(targets) for _, targets in found.sample] == [50, 50]
    assert found.coupling("signed").num_nodes == 888


def test_data_that_a_network_or_a_loss_does_not_take(tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    with pytest.raises(DataError, match=r"does not take the inputs \(15, 1\) of --data: RuntimeError: mat1"):
        couplings.network(ModelOptions("nets:small"), DataOptions("t.csv"), 60)
    with pytest.raises(DataError, match="the loss mse_loss does not take"):
        couplings.network(ModelOptions("nets:small", loss="mse_loss"), DATA, 60)


def test_a_graph_or_a_network(web):
    found = couplings.subject(web, NetworkOptions(), ModelOptions(), DataOptions(), 10, None)
    assert (found.title, found.size, list(found.couplings)) == ("web.txt", 6, ["graph"])
    assert lg.capacitance(found.couplings["graph"]()).beta_eff == pytest.approx(1.5)
    model = ModelOptions("nets:small")
    kinds = couplings.subject(None, NetworkOptions(), model, DATA, 10, ["flow", "signed", "flow"]).couplings
    assert {name: make().kind for name, make in kinds.items()} == {"flow": "flow", "signed": "signed"}
    for arguments, message in (
        ((web, NetworkOptions(), model, DATA, 10, None), "not both"),
        ((web, NetworkOptions(), ModelOptions(), DATA, 10, ["flow"]), "a graph has its weights"),
        ((None, NetworkOptions(), ModelOptions(), DATA, 10, None), "name a network"),
        ((None, NetworkOptions(), model, DATA, 10, ["sgned"]), "did you mean 'signed'"),
    ):
        with pytest.raises(typer.BadParameter, match=message):
            couplings.subject(*arguments)


def test_graphs_are_read_as_options_say(web):
    assert couplings.graph(web, NetworkOptions(undirected=True)).num_edges == 12
    assert couplings.graph(web, NetworkOptions(unweighted=True)).weight.unique().tolist() == [1]
