import numpy as np
import pytest

from linegraph.plot.columns import beside_each_other, in_columns, strongest_lines


def test_nodes_of_a_long_column_share_places_in_their_order():
    columns = in_columns(np.array([0] * 7 + [-1] * 2 + [5] * 2), 3)
    assert columns.block.tolist() == [0, 0, 0, 1, 1, 2, 2, -1, -1, 3, 4]
    assert columns.nodes.tolist() == [3, 2, 2, 1, 1]
    assert columns.place[:, 0].tolist() == [0, 0, 0, 1, 1]
    assert columns.place[:, 1] == pytest.approx([-1 / 6, -1 / 2, -5 / 6, -1 / 4, -3 / 4])
    assert columns.has_blocks
    assert columns.mean(np.arange(11.0)).tolist() == [1, 3.5, 5.5, 9, 10]


@pytest.mark.parametrize("most", [100, 3])
def test_lines_are_the_strongest_sums_of_each_group(most):
    rng = np.random.default_rng(0)
    layer = np.repeat([0, 1, 2], 8)
    ends = rng.integers(24, size=(2, 300))
    weight = rng.normal(size=300) * 10.0 ** layer[ends[1]]
    weight[::17] = 0
    columns = in_columns(layer, most)
    found = strongest_lines(columns, ends, weight, layer, 12)
    sums, sizes = {}, {}
    for number, (a, b) in enumerate(columns.block[ends].T):
        if weight[number]:
            key = (a, b) if columns.has_blocks else (a, b, number)
            sums[key] = sums.get(key, 0) + weight[number]
            sizes[key] = sizes.get(key, 0) + abs(weight[number])
    expected = []
    for group in range(3):
        of = sorted((key for key in sizes if columns.column[key[1]] == group), key=lambda key: -sizes[key])
        expected += [(*key[:2], sums[key], sizes[key] / sizes[of[0]]) for key in of[:4]]
    drawn = [(*end, w, share) for end, w, share in zip(found.ends.T, found.weight, found.share, strict=True)]
    np.testing.assert_allclose(sorted(drawn), sorted(expected))
    assert found.of == len(sizes)
    assert (np.diff(found.share) >= 0).all()


def test_parallel_lines_stand_beside_each_other():
    ends = np.array([[0, 0, 1, 0], [1, 1, 2, 1]])
    assert beside_each_other(ends).tolist() == [-0.5, 0, 0, 0.5]
