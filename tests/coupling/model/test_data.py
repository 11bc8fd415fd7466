"""How many samples a batch has: counted where all that tells it agrees, and refused where it does not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from transformers import BatchEncoding

import linegraph as lg
from linegraph.coupling.model.data import batch_size, has_no_sample
from linegraph.errors import DataError
from tests.comparison import close


def boxes(*numbers):
    return [{"boxes": torch.zeros(n, 4), "labels": torch.zeros(n).long(), "image_id": i} for i, n in enumerate(numbers)]


class Opaque:
    pass


N = torch.zeros(5, 3)
IMAGES = [torch.zeros(3, 8, 8), torch.zeros(3, 6, 9)]

CERTAIN = {
    "a tensor": (N, None, 5),
    "inputs and targets": (N, torch.zeros(5), 5),
    "targets alone": (Opaque(), torch.zeros(5, 2), 5),
    "two inputs": ((N, torch.zeros(5, 2, 2)), torch.zeros(5), 5),
    "a mapping": ({"x": N, "mask": torch.zeros(5), "scale": torch.tensor(2.0), "name": "x"}, None, 5),
    "an encoding": (BatchEncoding({"input_ids": torch.zeros(5, 7), "token_type_ids": torch.zeros(5, 7)}), None, 5),
    "targets in a mapping": (N, {"class": torch.zeros(5), "box": torch.zeros(5, 4)}, 5),
    "two targets": (N, [torch.zeros(5), torch.zeros(5, 2)], 5),
    "boxes": (torch.zeros(3, 3, 8, 8), boxes(0, 2, 1), 3),
    "as many boxes as channels": ((IMAGES,), boxes(3, 3), 2),
    "images of other sizes": ((IMAGES,), boxes(1, 4), 2),
    "images in a mapping": ({"images": IMAGES}, boxes(3, 3), 2),
    "no box at all": (torch.zeros(2, 3, 8, 8), boxes(0, 0), 2),
    "a tuple of boxes": (torch.zeros(2, 3, 8, 8), tuple(boxes(0, 7)), 2),
    "a tensor for each sample": (torch.zeros(3, 4), [torch.zeros(2), torch.zeros(0), torch.zeros(9)], 3),
    "words": (torch.zeros(2, 4), ["cat", "dog"], 2),
    "packed sequences": (pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)]), torch.zeros(2), 2),
    "sequences packed alone": (pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)]), None, 2),
    "one argument in a list": ([N], None, 5),
}
UNCERTAIN = {
    "a table of other length": ((N, torch.zeros(4)), torch.zeros(5), r"5 in inputs\[0\]|inputs\[0\] 5, inputs\[1\] 4"),
    "a graph": ((torch.zeros(6, 3), torch.zeros(2, 9).long()), torch.zeros(6), r"inputs\[1\] 2"),
    "positions of one row": ({"ids": N, "positions": torch.zeros(1, 3)}, None, r"inputs\['positions'\] 1"),
    "steps first": (torch.zeros(7, 5, 3), torch.zeros(5), "inputs 7, targets 5"),
    "flat targets": (torch.zeros(5, 7), torch.zeros(35), "targets 35"),
    "images of one size": (([torch.zeros(3, 8, 8)] * 2,), None, r"the list inputs\[0\] 2, inputs\[0\]\[0\] 3"),
    "two targets of two": (Opaque(), [torch.zeros(3), torch.zeros(3)], "the list targets 2"),
    "a state": ((N, (torch.zeros(1, 5, 4), torch.zeros(1, 5, 4))), None, r"inputs\[1\]\[0\] 1"),
    "nothing": (Opaque(), None, "inputs are a Opaque, targets a NoneType"),
    "scalars": ((torch.tensor(1.0), 3), torch.tensor(2), "inputs are a tuple, targets a Tensor"),
}


@pytest.mark.parametrize("name", CERTAIN)
def test_samples_are_counted(name):
    inputs, targets, expected = CERTAIN[name]
    assert batch_size(inputs, targets) == expected
    assert not has_no_sample(inputs, targets)


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_is_refused(name):
    inputs, targets, found = UNCERTAIN[name]
    with pytest.raises(DataError, match=rf"cannot tell the number of samples.*{found}.*batch_weight="):
        batch_size(inputs, targets)


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (torch.zeros(0, 3), torch.zeros(0)),
        (torch.zeros(0, 3), None),
        (torch.zeros(0, 3, 8, 8), []),
        ((torch.zeros(0, 3), torch.zeros(4)), torch.zeros(0)),
        ({"x": torch.zeros(0, 3)}, None),
        (Opaque(), torch.zeros(0)),
    ],
)
def test_batches_without_samples(inputs, targets):
    assert has_no_sample(inputs, targets)


def test_images_without_boxes_are_samples():
    """A loss per image, of batches of images with any number of boxes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()

    def batch(*numbers):
        x = torch.randn(len(numbers), 5).double()
        return x, [{"boxes": torch.randn(n, 4).double()} for n in numbers]

    def loss(outputs, targets):
        each = [((o - t["boxes"]) ** 2).sum() + o.square().sum() for o, t in zip(outputs, targets, strict=True)]
        return torch.stack(each).mean()

    data = [batch(0, 2), batch(3, 1, 1), batch(0), batch(1, 4)]
    whole = torch.cat([x for x, _ in data]), [t for _, y in data for t in y]
    close(lg.NeuralCoupling(model, loss, data).gradient(), lg.NeuralCoupling(model, loss, whole).gradient())
    nothing = torch.zeros(0, 5).double(), []
    close(lg.NeuralCoupling(model, loss, [nothing, *data]).gradient(), lg.NeuralCoupling(model, loss, data).gradient())


def test_a_batch_that_is_not_certain_is_refused_where_it_counts():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x, shift):
            return self.last(torch.relu(self.first(x) + shift))

    torch.manual_seed(0)
    model, batch = Shifted(), ((torch.randn(5, 3), torch.ones(4)), torch.randn(5, 2))
    assert lg.NeuralCoupling(model, lambda o, t: F.mse_loss(o, t), batch).gradient().any()
    assert lg.NeuralCoupling(model, lambda o, t: F.mse_loss(o, t), [batch]).gradient().any()
    assert lg.NeuralCoupling(model, F.mse_loss, [batch, batch]).gradient().any()  # which counts elements of targets
    with pytest.raises(DataError, match=r"inputs\[1\] 4.*batch_weight="):
        lg.NeuralCoupling(model, lambda o, t: F.mse_loss(o, t), [batch, batch])
    P = lg.NeuralCoupling(model, lambda o, t: F.mse_loss(o, t), [batch] * 2, batch_weight=lambda x, y: len(y))
    assert P.gradient().any()
