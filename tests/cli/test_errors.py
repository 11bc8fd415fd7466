import warnings

import pytest
import typer

from linegraph.cli.errors import closest, reported
from linegraph.errors import CoverageWarning, DataError


def test_closest_names():
    assert closest("sgned", ["signed", "flow"]) == "; did you mean 'signed'? there are signed, flow"
    assert closest("xyz", ["signed", "flow"]) == "; there are signed, flow"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("a\n  b"), 1, "linegraph: a b"),
        (FileNotFoundError("there is no file x"), 1, "linegraph: there is no file x"),
        (RuntimeError("mat1 and\nmat2"), 1, "linegraph: RuntimeError: mat1 and mat2 (--debug shows where)"),
        (DataError("pass loss_fn=torch.nn.functional.mse_loss"), 1, "linegraph: pass --loss mse_loss"),
        (DataError("pass epochs=3 with train_fully="), 1, "linegraph: pass --epochs 3 with --train-fully"),
        (
            KeyboardInterrupt(),
            130,
            "\ninterrupted; of rank and resilience, the same command goes on from --out",
        ),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(capsys, error, code, line):
    with pytest.raises(typer.Exit) as ended, reported(debug=False):
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == f"{line}\n"


def test_debug_raises_the_error_itself():
    with pytest.raises(DataError), reported(debug=True):
        raise DataError("a")


def test_errors_of_usage_pass():
    with pytest.raises(typer.BadParameter), reported(debug=False):
        raise typer.BadParameter("a")


def test_warnings_are_one_line(capsys):
    before = warnings.showwarning
    with warnings.catch_warnings(), reported(debug=False):
        warnings.simplefilter("always")
        warnings.warn("left\n out", CoverageWarning, stacklevel=1)
    assert capsys.readouterr().err == "CoverageWarning: left out\n"
    assert warnings.showwarning is before
