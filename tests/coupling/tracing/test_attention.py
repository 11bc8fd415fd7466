"""Attention is what torch computes unfused, whichever way a model asks for it, and other threads fuse theirs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import linegraph as lg
from linegraph.coupling.tracing.attention import Unfused
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
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return super().forward(x)


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
