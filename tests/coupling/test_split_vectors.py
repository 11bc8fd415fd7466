"""Vectors that are split over processes; in one process, the process holds all of them."""

import pytest
import torch

from linegraph.coupling.model.parameters import Synapse
from linegraph.coupling.products import SynapseVector
from linegraph.coupling.split_vectors import SplitVector
from linegraph.processes import Exchanges
from tests.comparison import close

SYNAPSES = (Synapse("a", (2, 3), 0, "linear"), Synapse("b", (3, 1), 6, "linear"))


@pytest.fixture
def vector():
    exchanges = Exchanges(torch.device("cpu"))
    with SplitVector(SYNAPSES, torch.float64, torch.device("cpu"), exchanges).shared() as split:
        yield split


def test_what_is_added_is_read_as_in_a_vector_of_one_process(vector):
    whole = SynapseVector(SYNAPSES, torch.empty(9, dtype=torch.float64))
    for into in (vector, whole):
        into.add("a", torch.arange(6.0).view(2, 3))
        into.add_product("a", torch.ones(2, 1, dtype=torch.float64), torch.full((1, 3), -7.0, dtype=torch.float64))
    assert dict(vector).keys() == {"a", "b"}
    close(torch.cat([part.flatten() for part in vector.values()]), whole.flat())
    close(vector.largest(), 7.0)


def test_it_is_divided_in_place(vector):
    vector.add("b", torch.tensor([[2.0], [4.0], [-8.0]]))
    vector.divide(2.0)
    close(vector["b"], torch.tensor([[1.0], [2.0], [-4.0]], dtype=torch.float64))
    assert vector.get("c") is None


def test_operations_are_offered_only_while_the_vector_is_shared():
    exchanges = Exchanges(torch.device("cpu"))
    first = exchanges.offer([lambda: None])
    with SplitVector(SYNAPSES, torch.float64, torch.device("cpu"), exchanges).shared():
        assert exchanges.offer([lambda: None]) == range(5, 6)
    assert exchanges.offer([lambda: None]) == range(first.stop, first.stop + 1)
