"""The identity on the networks people train: Hugging Face transformers, PyTorch Geometric, adapters, wrappers."""

import copy
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from tests.comparison import close, left_out

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TEXT = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}


def check_identity(model, loss, data, driven=None, adjoint=1e-9, **options):
    P = lg.NeuralCoupling(model, loss, data, **options)
    parameters = dict(model.named_parameters())
    inputs, targets = data
    outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    chosen = [parameters[s.name] for s in P.synapses]
    grads = torch.autograd.grad(loss(outputs, targets), chosen, allow_unused=True)
    gradient = torch.cat([g.flatten() for g in grads])
    torch.testing.assert_close(
        P @ P.weights() + P.drive(), -gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max())
    )
    u, v = torch.randn(2, P.num_nodes, dtype=torch.float64)
    a, b = u @ (P @ v), (P.T @ u) @ v
    torch.testing.assert_close(a, b, rtol=adjoint, atol=adjoint * float((u * (P @ v)).abs().sum()))
    if driven is not None:
        assert {name for name, b in P.split(P.drive()).items() if b.any()} == set(driven)
    matrices = {name for name, p in parameters.items() if p.ndim > 1 and p.requires_grad}
    if "include" not in options:
        assert {s.name for s in P.synapses} | {
            n for n, r in zip(*_roles(P), strict=True) if r == "unreached"
        } == matrices
    return P


def _roles(P):
    table = P.coverage()
    return table["name"], table["role"]


def logits_loss(outputs, targets):
    logits = outputs.logits
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def image(config_class, model_class, size=32, **options):
    def make(transformers):
        config = getattr(transformers, config_class)(num_labels=3, **options)
        data = {"pixel_values": torch.randn(2, 3, size, size, dtype=torch.float64)}, torch.tensor([0, 2])
        return getattr(transformers, model_class)(config), data

    return make


def text(config_class, model_class, classes=None, **options):
    def make(transformers):
        config = getattr(transformers, config_class)(**options)
        tokens = torch.randint(3, 11, (2, 5))
        inputs = {"input_ids": tokens, "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2])}
        if config.is_encoder_decoder:
            inputs["decoder_input_ids"] = tokens.flip(1)
        targets = torch.randint(classes, (2,)) if classes else torch.randint(11, (2, 5))
        return getattr(transformers, model_class)(config), (inputs, targets)

    return make


HUGGING_FACE = {
    "resnet": image(
        "ResNetConfig", "ResNetForImageClassification", embedding_size=4, hidden_sizes=[4, 6], depths=[1, 2],
        layer_type="bottleneck",
    ),
    "convnext": image("ConvNextConfig", "ConvNextForImageClassification", hidden_sizes=[4, 6], depths=[1, 2],
                      num_stages=2),
    "mobilenet_v2": image("MobileNetV2Config", "MobileNetV2ForImageClassification", depth_multiplier=0.1,
                          depth_divisible_by=2, min_depth=2),
    "vit": image("ViTConfig", "ViTForImageClassification", image_size=32, patch_size=16, hidden_size=8,
                 num_hidden_layers=2, num_attention_heads=2, intermediate_size=12),
    "swin": image("SwinConfig", "SwinForImageClassification", image_size=32, patch_size=4, embed_dim=4, depths=[2, 1],
                  num_heads=[1, 2], window_size=4),
    "bit": image("BitConfig", "BitForImageClassification", embedding_size=4, hidden_sizes=[8, 8], depths=[1, 1],
                 num_groups=2),
    "bert": text("BertConfig", "BertForSequenceClassification", 2, **TEXT, max_position_embeddings=8),
    "gpt2": text("GPT2Config", "GPT2LMHeadModel", vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2),
    "llama": text("LlamaConfig", "LlamaForCausalLM", **TEXT, num_key_value_heads=1, tie_word_embeddings=False),
    "t5": text("T5Config", "T5ForConditionalGeneration", vocab_size=11, d_model=8, d_kv=4, d_ff=12, num_layers=2,
               num_heads=2, decoder_start_token_id=0),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face(name):
    transformers = pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
    torch.manual_seed(0)
    model, data = HUGGING_FACE[name](transformers)
    # The norms of LLaMA and T5 compute in single precision whatever they are given.
    adjoint = 1e-6 if name in ("llama", "t5") else 1e-9
    P = check_identity(model.double().eval(), logits_loss, data, adjoint=adjoint)
    assert P.num_nodes > 100
    M = check_magnitude(P, model, logits_loss, data, adjoint)
    assert 0 < lg.capacitance(M).beta_eff < float("inf")


def check_magnitude(P, model, loss, data, tolerance):
    """The magnitude coupling bounds the signed one, and products with its transpose are those of an adjoint."""
    M = lg.NeuralCoupling(model, loss, data, kind="magnitude")
    v = torch.rand(M.num_nodes, dtype=torch.float64)
    for product in (lambda P, v: P @ v, lambda P, v: P.T @ v):
        bound, signed = product(M, v), product(P, v).abs()
        assert (bound >= 0).all()
        assert (bound >= signed - tolerance * bound.amax()).all()
    u = torch.rand(M.num_nodes, dtype=torch.float64)
    close(u @ (M @ v), (M.T @ u) @ v, tolerance)
    return M


@pytest.mark.parametrize("name", ["vit", "bert", "gpt2", "llama"])
def test_magnitude_of_hugging_face_with_each_of_its_attentions(name):
    transformers = pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
    found = []
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        model, data = HUGGING_FACE[name](transformers)
        model.set_attn_implementation(attention)
        P = lg.NeuralCoupling(model.double().eval(), logits_loss, data, kind="magnitude")
        found.append((P.in_strength(), P.out_strength()))
    for one, other in zip(*found, strict=True):  # some of the eager ones take their softmax in single precision
        close(one, other, 1e-5)


def test_state_spaces():
    """The decay rates of Mamba, whose exponentials it takes, are no nodes but part of the path."""
    transformers = pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
    torch.manual_seed(0)
    options = {"vocab_size": 11, "hidden_size": 8, "state_size": 4, "num_hidden_layers": 2, "time_step_rank": 2}
    model, data = text("MambaConfig", "MambaForCausalLM", conv_kernel=3, **options)(transformers)
    rates = [f"backbone.layers.{i}.mixer.A_log" for i in range(2)]
    P = left_out((model.double().eval(), logits_loss, data), *rates, match=r"torch\.exp.*A_log")
    assert {s.op for s in P.synapses} == {"embedding", "linear", "conv1d"}
    assert P.covered > 0.8


def test_tied_head():
    """GPT-2's embedding is its head too: both calls count, and both neurons of a weight do."""
    transformers = pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
    torch.manual_seed(0)
    model, data = HUGGING_FACE["gpt2"](transformers)
    check_identity(model.double().eval(), logits_loss, data, driven=["transformer.wte.weight"])


class GraphNet(nn.Module):
    def __init__(self, first, second, graph):
        super().__init__()
        self.first, self.second, self.graph = first, second, graph

    def forward(self, x):
        return self.second(torch.tanh(self.first(x, self.graph)), self.graph)


GRAPH_LAYERS = ["GCNConv", "GATConv", "GATv2Conv", "SAGEConv", "GINConv", "GraphConv", "ChebConv"]


def graph_network(layer):
    """Two such layers on a small graph, their loss and data; the network under study is itself a graph network."""
    from torch_geometric import nn as pyg

    torch.manual_seed(0)
    edges = torch.tensor([[0, 1, 2, 3, 4, 0, 2, 5], [1, 2, 3, 4, 0, 2, 0, 1]])

    def make(inputs, outputs):
        if layer == "GINConv":
            return pyg.GINConv(nn.Sequential(nn.Linear(inputs, 4), nn.ReLU(), nn.Linear(4, outputs)), train_eps=True)
        return getattr(pyg, layer)(inputs, outputs, **({"K": 2} if layer == "ChebConv" else {}))

    model = GraphNet(make(3, 4), make(4, 3), edges).double().eval()
    return model, F.cross_entropy, (torch.randn(6, 3, dtype=torch.float64), torch.randint(3, (6,)))


@pytest.mark.parametrize("layer", GRAPH_LAYERS)
def test_graph_networks(layer):
    made = graph_network(layer)
    P = check_identity(*made)
    check_magnitude(P, *made, 1e-9)


class Adapted(nn.Module):
    """A frozen linear layer with a trainable low-rank part beside it."""

    def __init__(self, linear, rank=2):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Linear(linear.in_features, rank, bias=False)
        self.b = nn.Linear(rank, linear.out_features, bias=False)

    def forward(self, x):
        return self.linear(x) + 2 * self.b(self.a(x))


def test_low_rank_adapters():
    """Only the adapter matrices are synapses; the frozen weights are path, and couple adapters across layers."""
    torch.manual_seed(0)
    model = nn.Sequential(Adapted(nn.Linear(5, 6)), nn.ReLU(), Adapted(nn.Linear(6, 3))).double()
    data = torch.randn(4, 5, dtype=torch.float64), torch.randint(3, (4,))
    P = check_identity(model, F.cross_entropy, data, driven=["0.b.weight", "2.b.weight"])  # one along frozen weights
    assert [s.name for s in P.synapses] == ["0.a.weight", "0.b.weight", "2.a.weight", "2.b.weight"]
    assert set(P.coverage().query("role == 'frozen'")["name"]) == {
        f"{i}.linear.{part}" for i in (0, 2) for part in ("weight", "bias")
    }


def test_peft():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    transformers = pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
    torch.manual_seed(0)
    model, data = HUGGING_FACE["bert"](transformers)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    model = peft.get_peft_model(model, config).double().eval()
    inputs, targets = data
    P = check_identity(model, logits_loss, (dict(inputs), targets))
    assert all("lora_" in s.name for s in P.synapses)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_seen_through(wrap):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    data = torch.randn(6, 4, dtype=torch.float64), torch.randint(3, (6,))
    plain = lg.NeuralCoupling(copy.deepcopy(model), F.cross_entropy, data)
    wrapped = lg.NeuralCoupling(wrap(model), F.cross_entropy, data)
    assert wrapped.synapses == plain.synapses
    torch.testing.assert_close(wrapped.in_strength(), plain.in_strength())


def test_the_table_of_what_is_covered_is_true():
    pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
    from tests import coverage_table

    written = coverage_table.FILE.read_text(encoding="utf-8")
    assert written == coverage_table.table(), "write docs/coverage.md anew: python -m tests.coverage_table"
