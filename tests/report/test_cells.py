import io
import math

import numpy as np
import pandas as pd
import pytest

from linegraph.report.cells import as_cell, as_columns, as_csv, as_frame


@pytest.mark.parametrize(
    ("value", "text", "key"),
    [
        (None, "", None),
        (math.nan, "", None),
        (pd.NA, "", None),
        (pd.NaT, "", None),
        (True, "yes", None),
        (np.bool_(False), "no", None),
        (3, "3", "3"),
        (np.int64(1_234_567), "1,234,567", "1234567"),
        (0.123456, "0.1235", "0.123456"),
        (-0.0, "0", "-0.0"),
        (math.inf, "∞", "Infinity"),
        (-math.inf, "−∞", "-Infinity"),
        ("<b>", "<b>", None),
        ([1, 2], "[1, 2]", None),
    ],
)
def test_values_are_shown_with_four_digits_and_sorted_with_all(value, text, key):
    assert as_cell(value) == (text, key)


def test_a_column_is_one_of_numbers_if_all_values_but_missing_ones_are():
    frame = pd.DataFrame({"a": [1.5, None], "b": ["1", "2"], "c": [1, "x"], "d": [None, None], "e": [True, False]})
    assert [column.is_number for column in as_columns(frame)] == [True, False, False, False, False]
    assert [cell.key for cell in as_columns(frame)[2].cells] == [None, None]


def test_the_index_is_a_column_unless_it_numbers_the_rows():
    assert list(as_frame(pd.DataFrame({"x": [1]}))) == ["x"]
    assert list(as_frame(pd.DataFrame({"x": [1]}, index=pd.Index(["a"], name="layer")))) == ["layer", "x"]
    assert list(as_frame(pd.Series({"nodes": 3}))) == ["index", "value"]
    assert list(as_frame(pd.DataFrame({("a", "b"): [1]}))) == ["a b"]
    assert list(as_frame(pd.DataFrame({"x": [1]}, index=pd.Index([5], name="x")))) == ["x", "x"]


def test_csv_keeps_all_digits():
    frame = pd.DataFrame({"name": ["a,b", 'say "c"', None, "β\nγ"], "x": [0.1 + 0.2, np.nan, 1e-300, math.inf]})
    read = pd.read_csv(io.StringIO(as_csv(frame)))
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)


@pytest.mark.parametrize("formula", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\tx", "\r=1", "＝1"])
def test_text_that_is_a_formula_gets_an_apostrophe(formula):
    read = pd.read_csv(io.StringIO(as_csv(pd.DataFrame({"name": [formula], formula: ["plain"]}))))
    assert read.iloc[0, 0] == f"'{formula}"
    assert read.columns[1] == f"'{formula}"


def test_numbers_written_as_text_are_no_formulas():
    assert as_csv(pd.DataFrame({"x": ["-1.5", "+2e3"], "y": [-1, -2]})) == "x,y\r\n-1.5,-1\r\n+2e3,-2\r\n"


def test_columns_of_one_name_are_kept():
    frame = pd.DataFrame([[1, 2]], columns=["x", "x"])
    assert as_csv(frame) == "x,x\r\n1,2\r\n"
    assert [column.name for column in as_columns(frame)] == ["x", "x"]
