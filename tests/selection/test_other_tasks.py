import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from linegraph.errors import ArgumentTypeError, DataError
from linegraph.selection import static_ranking
from linegraph.selection.methods import METHODS

RESULTS = pd.DataFrame(
    {"a": [0.9, 0.8, 0.7], "b": [0.1, 0.5, 0.1], "c": [np.nan, 0.2, 0.4], "d": [0.3, np.nan, np.nan]},
    index=["x", "y", "z"],
)


def test_mean_ranks_on_other_tasks():
    found = static_ranking(RESULTS)
    assert found.to_dict() == pytest.approx({"x": (1 + 0.25) / 2, "y": (0.5 + 1 + 0) / 3, "z": (0 + 0.25 + 1) / 3})
    assert static_ranking(RESULTS, task="a")["x"] == pytest.approx(0.25)
    assert np.isnan(static_ranking(RESULTS, task="a").drop("x")).sum() == 0


def test_ranks_are_those_of_scipy():
    results = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 4)))
    assert static_ranking(results).to_numpy() == pytest.approx((rankdata(results, axis=0) - 1).mean(1) / 8)


def test_the_method_is_the_rank_of_one_network():
    assert METHODS["static_ranking"].function("y", RESULTS) == pytest.approx(0.5)
    for missing, results in (("w", RESULTS), ("x", RESULTS[["b", "c"]].assign(b=[np.nan, 0.5, 0.1]))):
        with pytest.raises(DataError, match=f"no result of '{missing}' on other tasks"):
            METHODS["static_ranking"].function(missing, results)


@pytest.mark.parametrize(
    ("results", "task", "says"),
    [
        (RESULTS, "e", "no task 'e'; they have a, b, c, d"),
        (RESULTS, [1], "no task"),
        (RESULTS[["a"]], "a", "no other task"),
        (RESULTS[["d"]], None, "no other task"),
        (RESULTS.replace(0.9, "high"), None, "numbers"),
        (pd.concat([RESULTS, RESULTS]), None, "'x' twice"),
    ],
)
def test_tables_that_have_no_ranking(results, task, says):
    with pytest.raises(DataError, match=says):
        static_ranking(results, task=task)


def test_a_table_is_a_dataframe():
    with pytest.raises(ArgumentTypeError, match="results must be a pandas DataFrame"):
        static_ranking({"a": [1, 2]})
