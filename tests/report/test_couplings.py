import networkx as nx
import pandas as pd
import pytest
import torch

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError, NotAGraphError
from linegraph.report import couplings
from tests.report.pages import check

SCRIPT = "<script>alert(1)</script>"


def network(kind="magnitude"):
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4), torch.nn.Linear(4, 3))
    data = torch.randn(20, 6), torch.randn(20, 3)
    return lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data, kind=kind)


def named_graph():
    graph = nx.gnp_random_graph(40, 0.15, seed=0)
    return nx.relabel_nodes(graph, {0: SCRIPT, 1: "=1+1"})


def titles(page):
    return [part.title for part in page.parts if part.title]


def table_of(page, title):
    (part,) = (part for part in page.parts if part.title == title and part.kind == "table")
    return pd.DataFrame({column.name: [cell.key or cell.text for cell in column.cells] for column in part.columns})


def test_a_page_of_a_network_has_all_sections():
    P = network()
    page = lg.report.analysis(P, settings={"seed": 0})
    parsed = check(page.html())
    sections = ["Capacitance", "The whole graph", "Layers", "Strengths", "Centrality", "Spectrum", "Coverage"]
    assert [title for title in titles(page) if title in sections] == sections
    assert "not available" not in parsed.text
    kinds = table_of(page, "Capacitance by kind").set_index("kind")
    for kind in ("magnitude", "signed", "flow"):
        assert float(kinds.loc[kind, "beta_eff"]) == pytest.approx(float(lg.capacitance(P.of_kind(kind))), rel=1e-6)
    measures = table_of(page, "Measures").set_index("measure")["value"]
    assert int(measures["nodes"].replace(",", "")) == P.num_nodes
    assert set(measures.index) == set(lg.summary(P).index)
    assert list(table_of(page, "Parameters")["name"]) == list(P.coverage()["name"])
    assert dict(page.settings)["kind"] == "magnitude"


def test_signed_couplings_say_what_they_have_no_value_of():
    text = check(lg.report.analysis(network("signed")).html()).text
    assert "those of the kind “magnitude” at the same weights" in text
    assert "a power law needs strengths ≥ 0" in text


def test_a_page_of_a_graph_names_its_nodes():
    graph = named_graph()
    page = lg.report.analysis(graph)
    parsed = check(page.html())
    assert page.title == "Analysis of a graph of 40 nodes"
    best = table_of(page, "The 20 nodes of highest PageRank")
    ranks = nx.pagerank(graph)
    assert float(best["PageRank"][0]) == pytest.approx(max(ranks.values()), rel=1e-4)
    assert SCRIPT in parsed.text or SCRIPT not in list(best["node"])
    assert "Coverage" not in titles(page)


def test_the_name_of_a_synapse_is_its_place_in_the_weight():
    P = network()
    assert couplings._name(P, 0) == "0.weight[0, 0]"
    assert couplings._name(P, 6 * 5 + 4 * 2 + 1) == "2.weight[1, 4]"


@pytest.mark.filterwarnings("ignore::linegraph.errors.DegenerateCapacitanceWarning")
def test_a_graph_without_edges_says_what_is_not_defined():
    text = check(lg.report.analysis(lg.GraphCoupling(torch.zeros(2, 0, dtype=torch.long), num_nodes=3)).html()).text
    assert "None is positive" in text
    assert "not available" in text


def test_large_couplings_leave_out_what_takes_long(monkeypatch):
    monkeypatch.setattr(couplings, "PAIRED_LAYERS", 2)
    monkeypatch.setattr(couplings, "DENSITIES", ((10, 1, 4),))
    page = lg.report.analysis(network(), kinds=())
    text = check(page.html()).text
    assert "Pairs of layers are left out: there are 3, and up to 2 are paired." in text
    assert "Spectral densities are left out: 62 nodes are more than 10." in text


def test_the_steps_are_named(capsys):
    lg.report.analysis(network(), kinds="magnitude", progress=True)
    said = capsys.readouterr().err
    assert "Spectrum" in said
    assert "Coverage" in said


def test_wrong_arguments_are_refused():
    with pytest.raises(NotAGraphError):
        lg.report.analysis("graph")
    with pytest.raises(DataError, match="each of kinds must be one of"):
        lg.report.analysis(network(), kinds=["wrong"])
    with pytest.raises(DataError, match="values must be 1 or more"):
        lg.report.analysis(network(), values=0)
    with pytest.raises(ArgumentTypeError, match="title must be a string"):
        lg.report.analysis(network(), title=3)


def test_it_is_shown_without_network(opened):
    tab = opened(lg.report.analysis(named_graph()))
    assert tab.said == []
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
