import io

import numpy as np
import pandas as pd
import pytest
import torch

from linegraph.cli.tables import read_table
from linegraph.errors import DataError

TABLE = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "label": ["dog", "cat", "dog"]})


def read(tmp_path, table, loss="cross_entropy", target=None, name="t.csv"):
    path = tmp_path / name
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)
    return read_table(path, target, loss, None, grey=True)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_columns_of_numbers_and_classes(tmp_path, name):
    (inputs, targets), what = read(tmp_path, TABLE, name=name)
    assert inputs.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert targets.tolist() == [1, 0, 1]
    assert "2 classes" in what


def test_targets_follow_the_loss(tmp_path):
    numbers = TABLE.assign(label=[3, 5, 3])
    assert read(tmp_path, numbers)[0][1].tolist() == [0, 1, 0]
    assert read(tmp_path, numbers, "mse_loss")[0][1].tolist() == [[3], [5], [3]]
    assert read(tmp_path, TABLE.assign(label=[0.5, 1, 2]), "cross_entropy")[0][1].tolist() == [[0.5], [1], [2]]
    assert read(tmp_path, TABLE, "binary_cross_entropy_with_logits")[0][1].tolist() == [[1], [0], [1]]
    assert read(tmp_path, TABLE.assign(label=[True, False, True]))[0][1].tolist() == [1, 0, 1]
    assert read(tmp_path, TABLE.drop(columns="label"), "mse_loss", target="b")[0][1].tolist() == [[0.5], [1.5], [2.5]]


@pytest.mark.parametrize("nested", [True, False])
def test_images_in_cells(tmp_path, nested):
    image = pytest.importorskip("PIL.Image")

    def cell(level):
        file = io.BytesIO()
        image.fromarray(np.full((4, 5), level, np.uint8)).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": "x.png"} if nested else file.getvalue()

    table = pd.DataFrame({"image": [cell(0), cell(255)], "label": [0, 1]})
    (images, labels), what = read(tmp_path, table, name="t.parquet")
    assert images.shape == (2, 1, 4, 5)
    torch.testing.assert_close(images.mean((1, 2, 3)), torch.tensor([0.0, 1.0]))
    assert labels.tolist() == [0, 1]
    assert what.startswith("images")


@pytest.mark.parametrize(
    ("table", "target", "message"),
    [
        (TABLE.rename(columns={"label": "kind"}), None, "columns a, b, kind; which has the targets"),
        (TABLE, "lable", "no column 'lable'; did you mean 'label'"),
        (TABLE.assign(b=[1, None, 2]), None, "1 gaps in the column 'b'"),
        (TABLE.assign(a=["x", "y", "z"]), None, "no numbers in the column 'a'"),
        (TABLE[["label"]], None, "no column besides the targets"),
        (TABLE[:0], None, "has no row"),
    ],
)
def test_what_is_refused(tmp_path, table, target, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, table, target=target)


def test_texts_for_a_loss_of_numbers(tmp_path):
    with pytest.raises(DataError, match="takes numbers, and 'label' has 3 different texts"):
        read(tmp_path, TABLE.assign(label=["x", "y", "z"]), "mse_loss")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_table(tmp_path / "t.parquet", None, "cross_entropy", None, grey=False)
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "none.csv", None, "cross_entropy", None, grey=False)
