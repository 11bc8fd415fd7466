"""Attention is what torch computes unfused, whichever way a model asks for it, and other threads fuse theirs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import linegraph as lg
from linegraph.coupling.tracing.attention import Unfused
from linegraph.coupling.tracing.tape import Tape
from tests.comparison import close
from tests.side_by_side import WAIT, Meeting


def mask(name, rows, columns, dtype):
    from torch.nn.attention.bias import causal_lower_right, causal_upper_left

    return {
        "none": None,
        "truth": torch.rand(rows, columns) > 0.4,
        "numbers": torch.randn(rows, columns, dtype=dtype),
        "nothing": torch.zeros(rows, columns, dtype=torch.bool),
        "lower": causal_lower_right(rows, columns),
        "upper": causal_upper_left(rows, columns),
        "causal": None,
    }[name]


@pytest.mark.parametrize("name", ["none", "truth", "numbers", "nothing", "lower", "upper", "causal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_attention_is_that_of_torch(name, dtype, autocast):
    for dropout, scale, grouped in ((0.0, None, False), (0.3, 0.7, False), (0.0, None, True)):
        heads = 2 if grouped else 4
        q = torch.randn(2, 4, 5, 8, dtype=dtype, requires_grad=True)
        k, v = (torch.randn(2, heads, 6, size, dtype=dtype, requires_grad=True) for size in (8, 7))
        options = {"attn_mask": mask(name, 5, 6, dtype), "is_causal": name == "causal", "dropout_p": dropout}

        def found(mode, q=q, k=k, v=v, options=options, scale=scale, grouped=grouped):
            torch.manual_seed(0)
            with mode, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                y = F.scaled_dot_product_attention(q, k, v, **options, scale=scale, enable_gqa=grouped)
            return y, *torch.autograd.grad(y.float().square().sum(), (q, k, v))

        for one, right in zip(found(Unfused()), found(sdpa_kernel(SDPBackend.MATH)), strict=True):
            assert one.dtype == right.dtype
            torch.testing.assert_close(one, right, equal_nan=True)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))


class Overload(Functional):
    def forward(self, x):
        attend = torch.ops.aten.scaled_dot_product_attention.default
        return attend(self.query(x), self.key(x), self.value(x))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.heads(x, x, x, need_weights=False)[0]


class Insisting(Functional):
    """A model that asks for a fused kernel by itself."""

    def forward(self, x):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # which takes one head more
            return super().forward(x.unsqueeze(1)).squeeze(1)


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.jit.script(Functional())

    def forward(self, x):
        return self.inner(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("attention", [Functional, Overload, Heads, Insisting, Scripted])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_transformer_is_differentiated_twice(attention, frozen):
    """Weights of attention as synapses, and as part of the path; another thread fuses meanwhile."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), attention(), nn.Linear(8, 3)).double()
    if frozen or attention is Scripted:
        model[1].requires_grad_(False)
    meeting, data = Meeting(WAIT), (torch.randn(5, 3, 4).double(), torch.randn(5, 3, 3).double())
    model[0].register_forward_hook(meeting)

    def fused():
        q = torch.randn(1, 1, 4, 8, requires_grad=True)
        return torch.backends.cuda.flash_sdp_enabled(), F.scaled_dot_product_attention(q, q, q).grad_fn.name()

    before = fused()
    P, beside = meeting.beside(lambda: lg.NeuralCoupling(model, F.mse_loss, data), fused)
    if attention is not Scripted:  # what no mode sees torch decides for all threads
        assert beside == before
    assert fused() == before
    assert (P.verify(1e-9)["difference"] < 1e-9).all()
    u, v = torch.randn(2, P.num_nodes, dtype=torch.float64)
    close(u @ (P @ v), (P.T @ u) @ v)


def transformer(dropout=0.0):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True)
    for name, parameter in layer.named_parameters():
        if "norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    model = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3)).double()
    return model, F.mse_loss, (torch.randn(5, 6, 4).double(), torch.randn(5, 6, 3).double())


@pytest.fixture
def tapes(monkeypatch):
    """The tapes that are closed while a test runs."""
    closed, close_tape = [], Tape.close
    monkeypatch.setattr(Tape, "close", lambda tape, loss: (closed.append(tape), close_tape(tape, loss))[1])
    return closed


@pytest.mark.parametrize("batches", [False, True])
def test_attention_is_fused_until_a_product_is_transposed(batches, tapes):
    model, loss, (x, y) = transformer()
    data = [(x[:2], y[:2]), (x[2:], y[2:])] if batches else (x, y)
    P = lg.NeuralCoupling(model, loss, data)
    u, v = torch.randn(2, P.num_nodes).double()
    fused = P @ v
    assert [tape.is_fused for tape in tapes] == [True] * len(tapes)
    tapes.clear()
    transposed, again, more = P.T @ u, P @ v, P.T @ u
    assert [tape.is_fused for tape in tapes] == [False] * len(tapes)
    assert len(tapes) == (6 if batches else 1)
    close(again, fused)
    close(u @ fused, transposed @ v)
    close(more, transposed)


def test_attention_between_others_holds_no_scores():
    """What a kept pass saves does not grow with the square of the number of tokens."""
    model, loss, _ = transformer()

    def saved(tokens):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            lg.NeuralCoupling(model, loss, (torch.randn(1, tokens, 4).double(), torch.randn(1, tokens, 3).double()))
        return max(sizes)

    assert saved(400) < 400 * 400


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_attention_that_drops_scores_out_or_has_absolute_jacobians_is_not_fused(kind, tapes):
    P = lg.NeuralCoupling(*transformer(dropout=0.0 if kind == "magnitude" else 0.3), kind=kind, training=True)
    assert [tape.is_fused for tape in tapes] == [False]
    if kind == "signed":
        u, v = torch.randn(2, P.num_nodes).double()
        close(u @ (P @ v), (P.T @ u) @ v)
