import pandas as pd
import pytest
import torch
from torch_geometric.data import Data

import linegraph as lg
from linegraph.errors import DataError

P = lg.GraphCoupling(torch.tensor([[0, 1], [1, 2]]))

GIVEN = {
    "state_against_capacity": (lambda t: lg.plot.state_against_capacity(t, lg.dynamics.SIS()), "resilience_curve"),
    "state_against_loss": (lg.plot.state_against_loss, "resilience_curve"),
    "accuracy_against_capacitance": (lg.plot.accuracy_against_capacitance, "lg.rank"),
    "predicted_against_true": (lg.plot.predicted_against_true, "lg.rank"),
    "layer_bars": (lg.plot.layer_bars, "lg.diagnose"),
    "layer_pairs": (lg.plot.layer_pairs, "lg.layer_pairs"),
    "coupling_matrix": (lg.plot.coupling_matrix, "lg.coarse_graph"),
    "neuron_graph": (lg.plot.neuron_graph, "lg.neuron_graph"),
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("given", [pd.DataFrame({"other": [1.0]}), Data(), P, [1, 2], None], ids=str)
def test_wrong_tables_and_graphs_are_told_what_makes_them(name, given):
    draw, maker = GIVEN[name]
    with pytest.raises(DataError, match=f"made by .*{maker}"):
        draw(given)


def test_missing_columns_are_all_named():
    history = pd.DataFrame({"beta_eff": [3.0, 2.0, 1.0]})
    with pytest.raises(DataError, match="no columns 'name', 'accuracy'; it has 'beta_eff'; such a table is made by"):
        lg.plot.accuracy_against_capacitance(history)
    table = pd.DataFrame({"name": ["a"], "final": [0.9]})
    with pytest.raises(DataError, match="no column 'capacitance'; it has 'name', 'final'"):
        lg.plot.predicted_against_true(table, methods=["capacitance"])
