"""A whole pre-norm encoder against a brute force over its paths, and attention in all forms against one written out."""

import copy
import gc
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.bias import causal_upper_left

import linegraph as lg
from tests.architectures import ARCHITECTURES
from tests.comparison import close, true_gradient

WIDTH, HEADS, HIDDEN, WORDS, CLASSES = 4, 2, 5, 6, 3


class PreNorm(nn.Module):
    """Embedding, one pre-norm encoder, mean over tokens, head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        for norm in (self.norm1, self.norm2):
            nn.init.normal_(norm.weight)

    def forward(self, tokens):
        x = self.embed(tokens)
        h = self.norm1(x)
        q, k, v = (split(part(h)) for part in (self.query, self.key, self.value))
        x = x + self.out(joined(F.scaled_dot_product_attention(q, k, v)))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


def split(t):
    return t.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def joined(t):
    return t.transpose(1, 2).flatten(2)


def encoder():
    torch.manual_seed(0)
    return PreNorm().double(), F.cross_entropy, (torch.randint(WORDS, (2, 3)), torch.tensor([0, 2]))


def size(operation, x):
    """The dense absolute Jacobian of an operation, a matrix."""
    return torch.autograd.functional.jacobian(operation, x).abs().reshape(-1, x.numel())


def through_norm(norm, x):
    """The product of the absolute Jacobians of centring, scaling and the factor."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return (
        size(lambda t: t * norm.weight, scaled)
        @ size(lambda t: t / (t.square().mean(-1, keepdim=True) + norm.eps).sqrt(), centred)
        @ size(lambda t: t - t.mean(-1, keepdim=True), x)
    )


def brute_force(model, loss, data):
    """P, entry by entry, from dense absolute Jacobians multiplied path by path."""
    tokens, targets = data
    inputs, outputs, handles = {}, {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):

            def note(_, given, y, name=name):
                inputs[name], outputs[name] = given[0], y
                y.retain_grad()

            handles.append(module.register_forward_hook(note))
    loss(model(tokens), targets).backward()
    for handle in handles:
        handle.remove()
    gradients = {name: y.grad for name, y in outputs.items()}
    y = {name: value.detach() for name, value in outputs.items()}
    x = {name: value.detach() for name, value in inputs.items()}
    x["embed"] = F.one_hot(tokens, WORDS).double()

    q, k, v = (split(y[name]) for name in ("query", "key", "value"))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights = scores.softmax(-1)
    of_scores = size(lambda t: joined(t @ v), weights) @ size(lambda t: t.softmax(-1), scores)
    stream = y["embed"] + y["out"]  # what the second norm reads
    mean = size(lambda t: t.mean(1), stream)
    second = through_norm(model.norm2, stream)
    first = through_norm(model.norm1, y["embed"])
    path = {
        ("embed", "query"): first,
        ("embed", "key"): first,
        ("embed", "value"): first,
        ("query", "out"): of_scores @ size(lambda t: split(t) @ k.mT / math.sqrt(q.shape[-1]), y["query"]),
        ("key", "out"): of_scores @ size(lambda t: q @ split(t).mT / math.sqrt(q.shape[-1]), y["key"]),
        ("value", "out"): size(lambda t: joined(weights @ split(t)), y["value"]),
        ("embed", "up"): second,
        ("out", "up"): second,
        ("up", "down"): size(F.gelu, y["up"]),
        ("embed", "head"): mean,
        ("out", "head"): mean,
        ("down", "head"): mean,
    }
    P = lg.NeuralCoupling(model, loss, data, kind="magnitude")
    offsets = {s.name.removesuffix(".weight"): (s.offset, s.numel) for s in P.synapses}
    dense = torch.zeros(P.num_nodes, P.num_nodes, dtype=torch.float64)
    for (before, after), local in path.items():
        x_before, x_after = x[before].flatten(0, -2), x[after].flatten(0, -2)
        g = gradients[after].flatten(0, -2)
        local = local.view(*x_after.shape, -1, y[before].shape[-1])
        # The weights of an embedding are (words, features), all others (outputs, inputs).
        layout = "jika" if before == "embed" else "ijka"
        block = torch.einsum(f"pj,qapi,qk->{layout}", x_before.abs(), local, g.abs())
        (i, m), (j, n) = offsets[before], offsets[after]
        dense[i : i + m, j : j + n] = block.reshape(m, n)
    return P, dense


def test_an_encoder_entry_by_entry():
    P, dense = brute_force(*encoder())
    close(P.to_graph().to_dense(), dense)
    identity = torch.eye(P.num_nodes, dtype=torch.float64)
    close(P @ identity, dense)
    close(P.T @ identity, dense.T)
    v = torch.randn(P.num_nodes, dtype=torch.float64)
    close(P @ v, dense @ v)
    close(P.T @ v, dense.T @ v)
    close(P.in_strength(), dense.sum(1))
    close(P.out_strength(), dense.sum(0))
    assert lg.capacitance(P).beta_eff == pytest.approx(float(dense.sum(0) @ dense.sum(1) / dense.sum()), rel=1e-10)
    assert (P.in_strength() >= 0).all()


def test_the_gradient_of_an_encoder_is_the_true_one():
    model, loss, data = encoder()
    P = lg.NeuralCoupling(model, loss, data, kind="magnitude")
    close(P.gradient(), true_gradient(model, loss, data, [s.name for s in P.synapses]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_an_encoder_in_less_precision(dtype, tolerance):
    model, loss, data = encoder()
    exact = lg.NeuralCoupling(model, loss, data, kind="magnitude")
    rough = lg.NeuralCoupling(copy.deepcopy(model).to(dtype), loss, data, kind="magnitude")
    assert lg.capacitance(rough).beta_eff == pytest.approx(lg.capacitance(exact).beta_eff, rel=tolerance)
    for strengths in ("in_strength", "out_strength"):
        found, right = (getattr(P, strengths)().double() for P in (rough, exact))
        assert (found >= 0).all()
        close(found, right, 2 * tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_encoder_under_autocast(dtype):
    model, loss, data = encoder()
    exact = lg.NeuralCoupling(model, loss, data, kind="magnitude")
    with torch.autocast("cpu", dtype):
        rough = lg.NeuralCoupling(copy.deepcopy(model).float(), loss, data, kind="magnitude")
    close(rough.in_strength().double(), exact.in_strength(), 4e-2)
    close(rough.out_strength().double(), exact.out_strength(), 4e-2)


def written_out(q, k, v, added=0.0, scale=0.5):
    """Attention in matrix products and a softmax, whose magnitude the encoder above has shown to be right."""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    return (scale * q @ k.mT + added).softmax(-1) @ v


def causal():
    return torch.full((3, 3), -torch.inf, dtype=torch.float64).triu(1)


MASK = torch.tensor([[True, False, True], [False, True, True], [True, True, True]])
BIAS = torch.arange(9.0).view(3, 3).double() / 4
HIDING = torch.zeros(3, 3, dtype=torch.float64).masked_fill(~MASK, -torch.inf)
ATTENTION = {
    "plain": ({}, {}),
    "mask of truth values": ({"attn_mask": MASK}, {"added": HIDING}),
    "added mask": ({"attn_mask": BIAS}, {"added": BIAS}),
    "causal": ({"is_causal": True}, {"added": causal()}),
    "causal bias": ({"attn_mask": causal_upper_left(3, 3)}, {"added": causal()}),
    "scale": ({"scale": 0.7}, {"scale": 0.7}),
    "grouped heads": ({"enable_gqa": True}, {}),
}


class Attentive(nn.Module):
    """Queries, keys and values of 2 heads of 4 features, of 1 head of keys and values if these are grouped."""

    def __init__(self, attend, shared=False):
        super().__init__()
        torch.manual_seed(0)
        self.attend, heads = attend, 1 if shared else 2
        self.body, self.query = nn.Linear(3, 4), nn.Linear(4, 8)
        self.key, self.value, self.out = nn.Linear(4, 4 * heads), nn.Linear(4, 4 * heads), nn.Linear(8, 2)

    def forward(self, x):
        x = torch.tanh(self.body(x))
        q, k, v = (part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (self.query, self.key, self.value))
        return self.out(joined(self.attend(q, k, v)))


def agree(models, frozen=()):
    """Entries of the models agree, and so do products with P and Pᵀ."""
    x, y = torch.randn(2, 3, 3, dtype=torch.float64), torch.randn(2, 3, 2, dtype=torch.float64)
    found = []
    for model in models:
        for name in frozen:
            getattr(model, name).requires_grad_(False)
        found.append(lg.NeuralCoupling(model.double().eval(), F.mse_loss, (x, y), kind="magnitude"))
    v = torch.randn(found[0].num_nodes, dtype=torch.float64)
    for product in (lambda P: P @ v, lambda P: P.T @ v, lambda P: P.in_strength(), lambda P: P.gradient()):
        one, other = map(product, found)
        assert one.any()
        close(one, other)


@pytest.mark.parametrize("frozen", [(), ("query", "key", "value")], ids=["synapses", "path"])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name, frozen):
    given, written = ATTENTION[name]
    shared = "enable_gqa" in given
    forms = [
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **given),
        lambda q, k, v: written_out(q, k, v, **written),
    ]
    agree([Attentive(form, shared) for form in forms], frozen)


def test_attention_of_exported_networks():
    agree([Attentive(torch.ops.aten.scaled_dot_product_attention.default), Attentive(written_out)])


class Heads(nn.Module):
    """``MultiheadAttention`` between two layers, or the same written out."""

    def __init__(self, written, **options):
        super().__init__()
        torch.manual_seed(0)
        self.written, self.options = written, options
        self.body, self.heads = nn.Linear(3, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.tanh(self.body(x))
        if not self.written:
            return self.out(self.heads(x, x, x, **self.options)[0])
        h = self.heads
        parts = zip(h.in_proj_weight.chunk(3), h.in_proj_bias.chunk(3), strict=True)
        q, k, v = (F.linear(x, w, b).unflatten(-1, (2, 4)).transpose(1, 2) for w, b in parts)
        added = HIDING if "attn_mask" in self.options else 0.0
        return self.out(F.linear(joined(written_out(q, k, v, added)), h.out_proj.weight, h.out_proj.bias))


@pytest.mark.parametrize(
    "options", [{}, {"need_weights": False}, {"attn_mask": ~MASK}], ids=["weights", "none", "mask"]
)
@pytest.mark.parametrize("frozen", [(), ("heads",)], ids=["synapses", "path"])
def test_multi_head_attention(options, frozen):
    agree([Heads(False, **options), Heads(True, **options)], frozen)


def test_an_encoder_layer_of_torch_is_made_of_its_parts():
    class Layer(nn.Module):
        def __init__(self, written):
            super().__init__()
            torch.manual_seed(0)
            self.written = written
            self.body, self.out = nn.Linear(3, 8), nn.Linear(8, 2)
            self.layer = nn.TransformerEncoderLayer(8, 2, 6, batch_first=True, norm_first=True, activation="gelu")

        def forward(self, x):
            x, layer = self.body(x), self.layer
            if not self.written:
                return self.out(layer(x))
            h = layer.norm1(x)
            x = x + layer.self_attn(h, h, h)[0]
            return self.out(x + layer.linear2(F.gelu(layer.linear1(layer.norm2(x)))))

    agree([Layer(False), Layer(True)])
    agree([Layer(False), Layer(True)], ("layer",))


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["vit", "mixer"])
def test_exported_networks_have_the_coupling_of_the_original(name):
    torch.manual_seed(0)
    model, data = ARCHITECTURES[name]().double().eval(), (torch.randn(4, 1, 8, 8).double(), torch.arange(4))
    exported = torch.export.export(model, data[:1]).module()
    P, Q = (lg.NeuralCoupling(m, F.cross_entropy, data, kind="magnitude") for m in (model, exported))
    v = torch.rand(P.num_nodes, dtype=torch.float64)
    close(Q @ v, P @ v)
    close(Q.T @ v, P.T @ v)


def test_dropout_draws_the_same_masks_as_in_training():
    """The magnitude coupling bounds the signed one of the same pass, entry by entry."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 6, dropout=0.4, batch_first=True)
    model = nn.Sequential(nn.Linear(3, 8), layer, nn.Linear(8, 2)).double()
    data = torch.randn(2, 3, 3, dtype=torch.float64), torch.randn(2, 3, 2, dtype=torch.float64)
    found = []
    for kind in ("magnitude", "signed"):
        torch.manual_seed(1)
        P = lg.NeuralCoupling(model, F.mse_loss, data, kind=kind, training=True)
        found.append((P.gradient(), P.in_strength(), P.out_strength()))
    (gradient, *bounds), (expected, *signed) = found
    close(gradient, expected)
    for bound, strength in zip(bounds, signed, strict=True):
        assert (bound >= strength.abs() - 1e-12).all()


def test_a_pass_is_dropped_without_the_garbage_collector():
    """Hooks on autograd nodes, and twins, hold neither the tape nor the nodes."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(F.layer_norm(self.first(x).softmax(1).cumprod(1), (6,)))

    data = torch.randn(4, 3), torch.randn(4, 2)
    gc.disable()
    try:
        P = lg.NeuralCoupling(Net(), F.mse_loss, data, kind="magnitude")
        assert (P @ torch.ones(P.num_nodes)).any()
        assert P.out_strength().any()
        last = weakref.ref(P.passes._kept.calls[-1])
        del P
        assert last() is None
    finally:
        gc.enable()
