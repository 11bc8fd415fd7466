"""Arguments by position, by keyword and in every mixture of them, of functions, methods and operators."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import linegraph as lg
from linegraph.coupling.operations.signatures import in_one_form
from linegraph.errors import UnsupportedOperationError
from tests.comparison import close

ones, aten = torch.ones, torch.ops.aten
index = torch.arange(4).expand(6, 4)
few = torch.tensor([0, 2])


def image(h):
    return h.view(2, 3, 4)


def stacked(h):
    return h.expand(2, 6, 4)


CALLS = {
    # A weight meets an activation: the function, its arguments by their documented names, shapes of weights. Those that
    # torch takes by position only end in a slash, those by name only begin with a star, as in signatures.
    "mm": (torch.mm, lambda h, w: {"input": h, "mat2": w}, (4, 4)),
    "mm, weight first": (torch.mm, lambda h, w: {"input": w, "mat2": h.t()}, (4, 4)),
    "matmul": (torch.matmul, lambda h, w: {"input": h, "other": w}, (4, 4)),
    "linalg.matmul": (torch.linalg.matmul, lambda h, w: {"input": h, "other": w}, (4, 4)),
    "bmm": (torch.bmm, lambda h, w: {"input": stacked(h), "mat2": w}, (2, 4, 4)),
    "baddbmm": (
        torch.baddbmm,
        lambda h, w: {"input": h[None], "batch1": stacked(h), "batch2": w, "*beta": 0.5, "*alpha": -2},
        (2, 4, 4),
    ),
    "addmm": (torch.addmm, lambda h, w: {"input": h, "mat1": h, "mat2": w, "*beta": 0.5, "*alpha": -2}, (4, 4)),
    "addmm, weight first": (torch.addmm, lambda h, w: {"input": h.t(), "mat1": w, "mat2": h.t()}, (4, 4)),
    "addmv": (torch.addmv, lambda h, w: {"input": h[0], "mat": w, "vec": h[1], "*beta": -1, "*alpha": 2}, (4, 4)),
    "mv": (torch.mv, lambda h, w: {"input": w, "vec": h[1]}, (4, 4)),
    "addbmm": (torch.addbmm, lambda h, w: {"input": h, "batch1": stacked(h), "batch2": w, "*alpha": 0.5}, (2, 4, 4)),
    "mul": (torch.mul, lambda h, w: {"input": h, "other": w}, (6, 4)),
    "mul, weight first": (torch.mul, lambda h, w: {"input": w, "other": h}, (6, 4)),
    "add": (torch.add, lambda h, w: {"input": h, "other": w, "*alpha": 2}, (6, 4)),
    "sub": (torch.sub, lambda h, w: {"input": h, "other": w, "*alpha": 2}, (6, 4)),
    "linear": (F.linear, lambda h, w: {"input": h, "weight": w, "bias": ones(4)}, (4, 4)),
    "linear of a multiple": (
        lambda h, **k: F.linear(h, torch.mul(**k)),
        lambda h, w: {"h/": h, "*input": w, "*other": 0.5},
        (4, 4),
    ),
    "linear of a shifted weight": (
        lambda h, **k: F.linear(h, torch.sub(**k)),
        lambda h, w: {"h/": h, "*input": w, "*other": 0.5, "*alpha": -2},
        (4, 4),
    ),
    "conv1d": (
        F.conv1d,
        lambda h, w: {"input": image(h), "weight": w, "bias": ones(4), "stride": 1, "padding": 1, "dilation": 1},
        (4, 3, 3),
    ),
    "conv2d": (F.conv2d, lambda h, w: {"input": image(h)[..., None], "weight": w, "bias": ones(4)}, (4, 3, 3, 1)),
    "conv_transpose1d": (
        F.conv_transpose1d,
        lambda h, w: {"input": image(h), "weight": w, "bias": ones(4), "stride": 1, "padding": 1},
        (3, 4, 3),
    ),
    "convolution": (
        torch.convolution,
        lambda h, w: {
            **{"input": image(h), "weight": w, "bias": None, "stride": [1], "padding": [1], "dilation": [1]},
            **{"transposed": False, "output_padding": [0], "groups": 1},
        },
        (4, 3, 3),
    ),
    "embedding": (F.embedding, lambda h, w: {"input": index[:, :1], "weight": w, "padding_idx": None}, (5, 4)),
    "torch.embedding": (torch.embedding, lambda h, w: {"weight": w, "indices": index[:, :1]}, (5, 4)),
    "embedding_bag": (
        F.embedding_bag,
        lambda h, w: {"input": index, "weight": w, "offsets": None, "*mode": "sum", "*per_sample_weights": h},
        (5, 4),
    ),
    "bilinear": (F.bilinear, lambda h, w: {"input1": h, "input2": h * h, "weight": w, "bias": None}, (4, 4, 4)),
    "tensordot": (torch.tensordot, lambda h, w: {"a": h, "b": w, "dims": ([1], [0])}, (4, 4)),
    "inner": (torch.inner, lambda h, w: {"input": h, "other": w}, (4, 4)),
    "vecdot": (torch.linalg.vecdot, lambda h, w: {"x": h.unsqueeze(1), "y": w, "*dim": -1}, (4, 4)),
    "multi_dot": (torch.linalg.multi_dot, lambda h, w: {"tensors": [h, w]}, (4, 4)),
    "cat": (torch.cat, lambda h, w: {"tensors": [h, w], "dim": 0}, (6, 4)),
    "where": (torch.where, lambda h, w: {"condition": h > 0, "input": h, "other": w}, (6, 4)),
    "transpose": (
        lambda h, **k: h @ torch.transpose(**k),
        lambda h, w: {"h/": h, "*input": w, "*dim0": 0, "*dim1": 1},
        (4, 4),
    ),
    "permute": (lambda h, **k: h @ torch.permute(**k), lambda h, w: {"h/": h, "*input": w, "*dims": (1, 0)}, (4, 4)),
    "reshape": (lambda h, **k: h @ torch.reshape(**k), lambda h, w: {"h/": h, "*input": w, "*shape": (4, 4)}, (2, 8)),
    "index_select": (
        lambda h, **k: h @ torch.index_select(**k),
        lambda h, w: {"h/": h, "*input": w, "*dim": 0, "*index": torch.arange(4)},
        (6, 4),
    ),
    "Tensor.mm": (Tensor.mm, lambda h, w: {"self/": h, "mat2": w}, (4, 4)),
    "Tensor.bmm": (Tensor.bmm, lambda h, w: {"self/": stacked(h), "mat2": w}, (2, 4, 4)),
    "Tensor.addmm": (Tensor.addmm, lambda h, w: {"self/": h, "mat1": h, "mat2": w, "*alpha": 2}, (4, 4)),
    "Tensor.baddbmm": (Tensor.baddbmm, lambda h, w: {"self/": h[None], "batch1": stacked(h), "batch2": w}, (2, 4, 4)),
    "Tensor.sub": (Tensor.sub, lambda h, w: {"self/": h, "other": w, "*alpha": 2}, (6, 4)),
    "aten.mm": (aten.mm.default, lambda h, w: {"self": h, "mat2": w}, (4, 4)),
    "aten.addmm": (aten.addmm.default, lambda h, w: {"self": h, "mat1": h, "mat2": w, "*beta": 0.5}, (4, 4)),
    "aten.linear": (aten.linear.default, lambda h, w: {"input": h, "weight": w, "bias": ones(4)}, (4, 4)),
    "aten.embedding": (aten.embedding.default, lambda h, w: {"weight": w, "indices": index[:, :1]}, (5, 4)),
    "aten.tensordot": (
        aten.tensordot.default,
        lambda h, w: {"self": h, "other": w, "dims_self": [1], "dims_other": [0]},
        (4, 4),
    ),
    # on a path between two weights
    "path: mm": (torch.mm, lambda h: {"input": h, "mat2": h.t()}),
    "path: baddbmm": (torch.baddbmm, lambda h: {"input": ones(2, 1, 1), "batch1": stacked(h), "batch2": stacked(h).mT}),
    "path: linear": (F.linear, lambda h: {"input": h, "weight": h[:4], "bias": h[0]}),
    "path: addr": (torch.addr, lambda h: {"input": h, "vec1": h[:, 0], "vec2": h[1], "*alpha": -2}),
    "path: dot": (torch.dot, lambda h: {"input": h[0], "tensor": h[1]}),
    "path: outer": (torch.outer, lambda h: {"input": h[:, 0], "vec2": h[1]}),
    "path: kron": (torch.kron, lambda h: {"input": h, "other": h[:2]}),
    "path: chain_matmul": (lambda h: torch.chain_matmul(h, h.t(), h), lambda h: {"h/": h}),
    "path: mul by a number": (torch.mul, lambda h: {"input": h, "other": -2.0}),
    "path: div": (torch.div, lambda h: {"input": h, "other": h + 3}),
    "path: sub": (torch.sub, lambda h: {"input": h, "other": h * h, "*alpha": 2}),
    "path: rsub": (torch.rsub, lambda h: {"input": h, "other": h * h, "*alpha": 2}),
    "path: where": (torch.where, lambda h: {"condition": h > 0, "input": h, "other": -h}),
    "path: clamp": (torch.clamp, lambda h: {"input": h, "min": torch.tensor(-0.3), "max": torch.tensor(0.2)}),
    "path: lerp": (torch.lerp, lambda h: {"input": h, "end": h * h, "weight": 0.3}),
    "path: addcmul": (torch.addcmul, lambda h: {"input": h, "tensor1": h, "tensor2": h, "*value": -2}),
    "path: pow": (torch.pow, lambda h: {"input": h + 3, "exponent": 3}),
    "path: elu in place": (F.elu, lambda h: {"input": h, "*alpha": 2.0, "*inplace": True}),
    "path: prelu": (F.prelu, lambda h: {"input": h, "weight": ones(1) * 0.3}),
    "path: sum": (torch.sum, lambda h: {"input": h, "dim": 1, "*keepdim": True}),
    "path: sum by NumPy's names": (torch.sum, lambda h: {"input": h, "*axis": 1, "*keepdims": True}),
    "path: max": (torch.max, lambda h: {"input": h, "dim": 1}),
    "path: max of two": (torch.max, lambda h: {"input": h, "other": h * h}),
    "path: gather": (torch.gather, lambda h: {"input": h, "dim": 1, "index": index}),
    "path: index_add": (torch.index_add, lambda h: {"input": h, "dim": 0, "index": few, "source": h[:2], "*alpha": -1}),
    "path: scatter_add": (torch.scatter_add, lambda h: {"input": h, "dim": 1, "index": index, "src": h * h}),
    "path: stack": (torch.stack, lambda h: {"tensors": [h, h * h], "dim": 1}),
    "path: pad": (F.pad, lambda h: {"input": h, "pad": (1, 1), "*mode": "constant", "*value": 2.0}),
    "path: max_pool2d": (
        F.max_pool2d,
        lambda h: {"input": image(h)[None], "kernel_size": 2, "stride": 1, "padding": 1},
    ),
    "path: avg_pool1d": (F.avg_pool1d, lambda h: {"input": image(h), "kernel_size": 2, "stride": 1}),
    "path: softmax": (torch.softmax, lambda h: {"input": h, "dim": 1}),
    "path: layer_norm": (F.layer_norm, lambda h: {"input": h, "normalized_shape": [4], "weight": ones(4)}),
    "path: attention": (
        F.scaled_dot_product_attention,
        lambda h: {"query": h, "key": h, "*value": h, "*dropout_p": 0.0},
    ),
    "path: batch_norm": (
        F.batch_norm,
        lambda h: {"input": h, "running_mean": ones(4), "running_var": ones(4), "weight": -ones(4), "*training": False},
    ),
    "path: Tensor.where": (Tensor.where, lambda h: {"self/": h, "condition": h > 0, "other": -h}),
    "path: Tensor.expand": (Tensor.expand, lambda h: {"self/": h, "size": (2, 6, 4)}),
    "path: Tensor.view": (Tensor.view, lambda h: {"self/": h, "size": (4, 6)}),
    "path: Tensor.add_": (lambda h, **k: h.clone().add_(**k), lambda h: {"h/": h, "*other": h * h, "*alpha": -2}),
    "path: aten.batch_norm": (
        aten.batch_norm.default,
        lambda h: {
            **{"input": h, "weight": None, "bias": None, "running_mean": ones(4), "running_var": ones(4)},
            **{"training": False, "momentum": 0.1, "eps": 1e-5, "cudnn_enabled": False},
        },
    ),
    "path: aten.slice": (aten.slice.Tensor, lambda h: {"self": h, "dim": 1, "start": 1, "end": 3}),
    "path: aten.index": (aten.index.Tensor, lambda h: {"self": h, "indices": [None, torch.arange(3)]}),
    "path: aten.mT": (aten.mT.default, lambda h: {"self": h}),
    "path: aten.where": (aten.where.self, lambda h: {"condition": h > 0, "self": h, "other": -h}),
    "path: aten._to_copy": (aten._to_copy.default, lambda h: {"self": h, "*dtype": torch.float64}),
}


class Net(nn.Module):
    """A linear layer, a call whose last arguments are given by keyword, and a linear layer."""

    def __init__(self, call, by_position):
        super().__init__()
        function, self.arguments, *shapes = call
        self.function, self.by_position = function, by_position
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.w = nn.ParameterList(nn.Parameter(torch.randn(shape) / 2) for shape in shapes)

    def forward(self, x):
        given = self.arguments(1.5 * torch.sin(self.first(x)), *self.w)
        placed = list(given)[: self.by_position]
        named = {name.strip("*"): value for name, value in given.items() if name not in placed}
        y = self.function(*(given[name] for name in placed), **named)
        y = y if isinstance(y, Tensor) else y[0]
        return self.last(torch.tanh(y.reshape(-1).repeat(24)[:24].view(6, 4)))


def products(call, by_position, kind):
    """Strengths of the net, or the operation that is refused by name, and its graph."""
    torch.manual_seed(0)
    net = Net(call, by_position).double()
    data = torch.randn(6, 4).double(), torch.randn(6, 3).double()
    try:
        P = lg.NeuralCoupling(net, F.mse_loss, data, kind=kind)
        found = [P.in_strength(), P.out_strength()]
    except UnsupportedOperationError as error:
        return str(error)
    if kind == "signed":
        assert (P.verify(1e-9)["difference"] < 1e-9).all()
        found.append(P.to_graph().to_dense())
    return found


@pytest.fixture
def _in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")
@pytest.mark.usefixtures("_in_double")
@pytest.mark.parametrize("name", CALLS)
def test_keywords_mean_what_positions_mean(name):
    call = CALLS[name]
    given = list(call[1](ones(6, 4), *(ones(shape) for shape in call[2:])))
    least = sum(argument.endswith("/") for argument in given)
    most = sum(not argument.startswith("*") for argument in given)
    for kind in ("signed", "magnitude"):
        expected = products(call, most, kind)
        assert kind == "magnitude" or not isinstance(expected, str)
        for by_position in {least, (least + most) // 2}:
            found = products(call, by_position, kind)
            if isinstance(expected, str):
                assert found == expected
            else:
                for a, b in zip(found, expected, strict=True):
                    close(a, b)


def test_calls_have_one_form():
    x, w = torch.randn(2, 3), torch.randn(3, 4)
    for function, args, kwargs in (
        (torch.mm, (x, w), {}),
        (torch.mm, (x,), {"mat2": w}),
        (torch.mm, (), {"mat2": w, "input": x}),
        (aten.mm.default, (), {"self": x, "mat2": w}),
        (aten.mm, (x,), {"mat2": w}),
    ):
        found, given, named = in_one_form(function, args, kwargs)
        assert found is torch.mm
        assert [t.data_ptr() for t in given] == [x.data_ptr(), w.data_ptr()]
        assert not named
    assert in_one_form(torch.sum, (x,), {"axis": 1, "keepdims": True}) == (torch.sum, (x, 1), {"keepdim": True})
    assert in_one_form(F.relu, (x,), {"inplace": True}) == (F.relu, (x,), {"inplace": True})  # settings stay as given
    assert in_one_form(torch.einsum, ("ij->j", x), {}) == (torch.einsum, ("ij->j", x), {})
    assert in_one_form(torch.mm, (x,), {"matrix": w}) == (torch.mm, (x,), {"matrix": w})  # for torch to refuse
