import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import linegraph as lg
from linegraph.errors import ArgumentTypeError, DataError


def table(seed, count=4):
    rng = np.random.default_rng(seed)
    names = ["nodes", "clustering", "beta_eff", "path_length", "modularity"][:count]
    columns = {"value": rng.uniform(1, 2, count), "rewired_mean": 1.0, "rewired_z": rng.normal(0, 3, count)}
    return pd.DataFrame(columns, index=pd.Index(names, name="measure"))


TABLES = {name: table(i) for i, name in enumerate(["one", "two", "three"])}


def texts(ax):
    return [text.get_text() for text in ax.texts]


def drawn(ax):
    return np.ma.filled(ax.images[0].get_array().astype(float), np.nan)


def test_z_scores_are_coloured_and_written():
    ax = Figure().add_subplot()
    assert lg.plot.topology(TABLES, ax) is ax
    expected = np.stack([t["rewired_z"] for t in TABLES.values()], 1)
    assert np.allclose(drawn(ax), expected)
    limit = min(max(np.abs(expected).max(), 2), 10)
    assert ax.images[0].get_clim() == pytest.approx((-limit, limit))
    assert [label.get_text() for label in ax.get_xticklabels()] == list(TABLES)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        *("nodes", "clustering", r"$\beta_\mathrm{eff}$", "path length")
    ]
    assert texts(ax) == [f"{z:+.1f}".replace("-", "−") for z in expected.flat]


def test_values_are_coloured_from_the_smallest_to_the_largest_of_their_row():
    ax = lg.plot.topology(TABLES, column="value")
    values = np.stack([t["value"] for t in TABLES.values()], 1)
    spread = values.max(1, keepdims=True) - values.min(1, keepdims=True)
    assert np.allclose(drawn(ax), (values - values.min(1, keepdims=True)) / spread)
    same = {name: table(0).assign(value=1 + rounding) for name, rounding in (("a", 0), ("b", 1e-13))}
    ax = lg.plot.topology(same, column="value")
    assert np.isnan(drawn(ax)).all()
    assert texts(ax) == ["1"] * 8


def test_what_is_zero_but_for_rounding_is_written_as_zero():
    ax = lg.plot.topology({"a": table(0).assign(value=2.0), "b": table(0).assign(value=3e-16)}, column="value")
    assert texts(ax) == ["2", "0"] * 4


def test_many_graphs_have_signs_where_z_scores_are_large():
    many = {f"network-{k}": table(k) for k in range(60)}
    ax = lg.plot.topology(many)
    expected = np.stack([t["rewired_z"] for t in many.values()], 1)
    assert sorted(texts(ax)) == sorted(["+"] * int((expected >= 2).sum()) + ["−"] * int((expected <= -2).sum()))
    assert ax.get_xticklabels()[0].get_rotation() == 90
    width = ax.figure.get_figwidth()
    assert lg.plot.topology(TABLES).figure.get_figwidth() < width < 20


def test_rows_without_a_number_are_left_out_and_single_cells_are_undefined():
    partly = {name: t.copy() for name, t in TABLES.items()}
    for t in partly.values():
        t.loc["nodes", "rewired_z"] = np.nan
    partly["two"].loc["clustering", "rewired_z"] = np.nan
    ax = lg.plot.topology(partly)
    assert drawn(ax).shape == (3, 3)
    assert texts(ax)[1] == "–"


def test_one_table_and_a_choice_of_measures():
    ax = lg.plot.topology(TABLES["one"], column="value", measures=["path_length", "nodes"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["path length", "nodes"]
    assert texts(ax) == [f"{TABLES['one'].loc[name, 'value']:.3g}" for name in ("path_length", "nodes")]


def test_tables_of_graphs_with_and_without_a_null_model():
    mixed = {
        "a": lg.topology(nx.path_graph(5), null=()),
        "b": lg.topology(nx.path_graph(6), null="shuffled", samples=2),
    }
    ax = lg.plot.topology(mixed)  # values, which all have
    assert "5" in texts(ax)


def test_z_scores_of_zero_have_no_sign():
    ax = lg.plot.topology(TABLES["one"].assign(rewired_z=[-0.01, 0.0, 0.06, -0.06]))
    assert texts(ax) == ["0", "0", "+0.1", "−0.1"]


def test_long_names_of_few_graphs_stand_upright():
    short, long = ({f"{k}{name}": table(k) for k in range(12)} for name in ("n", 20 * "n"))
    axes = [lg.plot.topology(tables) for tables in (short, long)]
    assert [ax.get_xticklabels()[0].get_rotation() for ax in axes] == [0, 90]
    assert axes[0].figure.get_figwidth() == pytest.approx(axes[1].figure.get_figwidth())


def test_what_all_names_share_is_said_once():
    ax = lg.plot.topology({f"zoo/ring-{k}": table(k) for k in range(3)})
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]
    assert ax.get_xlabel() == "graph (zoo/ring-…)"
    assert lg.plot.topology(TABLES).get_xlabel() == ""


def test_bad_input():
    with pytest.raises(ArgumentTypeError, match=r"a table, or a dict of tables by name, got list; lg.topology makes"):
        lg.plot.topology([TABLES["one"]])
    with pytest.raises(DataError, match="there is no table"):
        lg.plot.topology({})
    with pytest.raises(DataError, match="no column 'shuffled_z'"):
        lg.plot.topology(TABLES, column="shuffled_z")
    with pytest.raises(DataError, match="no measure 'girth'; they have nodes, clustering"):
        lg.plot.topology(TABLES, measures=["girth"])
    with pytest.raises(ArgumentTypeError, match="measures must be a list of names, got str"):
        lg.plot.topology(TABLES, measures="nodes")
    with pytest.raises(DataError, match="no measure has a number in the column 'rewired_z'; draw another"):
        lg.plot.topology(TABLES["one"].assign(rewired_z=np.nan))
    with pytest.raises(ArgumentTypeError, match="expected a table"):
        lg.plot.topology({"a": 3})
