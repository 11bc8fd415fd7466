import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from linegraph.coupling.sparse import in_rows, multiplied, threaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 3])
def test_products_of_either_form_equal_the_dense_one(dtype, k):
    rng = np.random.default_rng(0)
    dense = torch.from_numpy(rng.random((5, 7)) * (rng.random((5, 7)) < 0.4)).to(dtype)
    dense[2] = 0  # an empty row
    matrix, block = csr_array(dense.numpy()), torch.rand(7, k, dtype=dtype)
    for form in (matrix, threaded(matrix)):
        torch.testing.assert_close(multiplied(form, block), dense @ block)


def test_a_matrix_in_rows_shares_the_memory_of_its_values():
    ends, columns, values = torch.tensor([0, 1, 1, 3]).int(), torch.tensor([1, 0, 1]).int(), torch.ones(3).double()
    matrix = in_rows(ends, columns, values, (3, 2))
    values[2] = 5
    assert matrix.to_dense().tolist() == [[0, 1], [0, 0], [1, 5]]
