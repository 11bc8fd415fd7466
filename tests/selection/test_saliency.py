import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from linegraph.errors import ArgumentTypeError, DataError, LossError, NonFiniteError, NoSynapseError
from linegraph.selection import fisher, grad_norm, grasp, jacobian_covariance, snip, synflow

SCORES = [fisher, grad_norm, grasp, jacobian_covariance, snip, synflow]
OF_THE_LOSS = [fisher, grad_norm, grasp, snip]


def seeded(make):
    torch.manual_seed(0)
    return make().double()


def perceptron():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 3)
    )


def vectors(n=6, d=4):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


def images(n=6):
    return vectors(n, 16)[0].reshape(n, 1, 4, 4), torch.arange(n) % 3


def slope(function, at, step=1e-5):
    """The derivative of a function of a tensor, entry by entry, by central differences."""
    found = torch.zeros_like(at)
    for index in range(at.numel()):
        move = torch.zeros_like(at).view(-1)
        move[index] = step
        found.view(-1)[index] = (function(at + move.view_as(at)) - function(at - move.view_as(at))) / (2 * step)
    return found


def slopes_by_weight(model, loss):
    """The derivative of the loss by every weight matrix, by central differences."""
    found = []
    for p in model.parameters():
        if p.ndim >= 2:
            before = p.detach().clone()

            def moved(values, p=p):
                p.data = values
                return float(loss(model))

            found.append((before, slope(moved, before)))
            p.data = before
    return found


@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_gradient_norm_and_snip_by_finite_differences(make):
    model, (x, y) = seeded(make), vectors() if make is perceptron else images()

    def loss(model):
        model[3:4].eval()  # no dropout; batch norm in training mode
        with torch.no_grad():
            return cross_entropy(model(x), y)

    slopes = slopes_by_weight(copy.deepcopy(model), loss)
    assert grad_norm(model, cross_entropy, (x, y)) == pytest.approx(sum(float(g.norm()) for _, g in slopes), rel=1e-6)
    assert snip(model, cross_entropy, (x, y)) == pytest.approx(
        sum(float((w * g).abs().sum()) for w, g in slopes), rel=1e-6
    )


def test_grasp_by_the_change_of_the_gradient():
    model, (x, y) = seeded(perceptron), vectors()
    weights = [p for p in model.parameters() if p.ndim >= 2]

    def gradient():
        return [g.detach() for g in torch.autograd.grad(cross_entropy(model(x), y), weights)]

    found, first, step = grasp(model, cross_entropy, (x, y)), gradient(), 1e-5
    at = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, g in zip(weights, first, strict=True):
                p += sign * step * g
        at.append(gradient())
        with torch.no_grad():
            for p, g in zip(weights, first, strict=True):
                p -= sign * step * g
    expected = -sum(
        float((p.detach() * (up - down)).sum()) / (2 * step) for p, up, down in zip(weights, *at, strict=True)
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_grasp_of_a_loss_that_is_linear_in_the_weights_is_zero():
    linear = nn.Linear(4, 3).double()
    assert grasp(linear, lambda outputs, targets: outputs.mean(), vectors()) == 0


def test_fisher_by_gates_of_channels():
    """A gate multiplies each channel of a sample; Σ_p a ∂C/∂a is the derivative of the loss by it."""
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 2, 3).double(), nn.Linear(8, 3).double()
    x, y = images(4)

    def loss(gates, other):
        hidden = torch.tanh(first(x) * gates[:, :, None, None])
        return float(cross_entropy(last(hidden.flatten(1)) * other, y))

    with torch.no_grad():
        ones = torch.ones(4, 2, dtype=torch.float64), torch.ones(4, 3, dtype=torch.float64)
        by_gates = slope(lambda gates: loss(gates, ones[1]), ones[0]), slope(lambda g: loss(ones[0], g), ones[1])
    found = fisher(nn.Sequential(first, nn.Tanh(), nn.Flatten(), last), cross_entropy, (x, y))
    assert found == pytest.approx(sum(float((s**2).sum()) for s in by_gates) / 2, rel=1e-6)


def test_fisher_of_tokens_sums_over_positions_and_samples_apart():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)).mean(1))

    model = seeded(Tokens)
    x = torch.randn(4, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.arange(4) % 3
    gates = torch.ones(4, 5, dtype=torch.float64)

    def loss(gates):
        with torch.no_grad():
            return float(cross_entropy(model.b(torch.tanh(model.a(x) * gates[:, None]).mean(1)), y))

    rest = fisher(model.b, cross_entropy, (torch.tanh(model.a(x)).mean(1).detach(), y))
    assert fisher(model, cross_entropy, (x, y)) == pytest.approx(float((slope(loss, gates) ** 2).sum()) / 2 + rest)


def test_fisher_takes_layers_of_other_classes_and_no_embeddings():
    class Transposed(nn.Module):
        """A linear layer as GPT-2 has it."""

        def __init__(self, a, b):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(a, b)), nn.Parameter(torch.zeros(b))

        def forward(self, x):
            return torch.addmm(self.bias, x, self.weight)

    first, last = seeded(lambda: Transposed(4, 5)), nn.Linear(5, 3).double()
    same = nn.Linear(4, 5).double()
    with torch.no_grad():
        same.weight.copy_(first.weight.T)
        same.bias.copy_(first.bias)
    data = vectors()
    expected = fisher(nn.Sequential(same, nn.Tanh(), last), cross_entropy, data)
    assert fisher(nn.Sequential(first, nn.Tanh(), last), cross_entropy, data) == pytest.approx(expected)
    embedded = nn.Sequential(nn.Embedding(9, 5).double(), last)
    ids = torch.arange(6)
    alone = fisher(last, cross_entropy, (embedded[0](ids).detach(), data[1]))
    assert fisher(embedded, cross_entropy, (ids, data[1])) == pytest.approx(alone)


def test_jacobian_covariance_by_the_jacobians_of_single_samples():
    model, (x, y) = seeded(perceptron), vectors()
    rows = [torch.autograd.functional.jacobian(lambda one: model(one).sum(), one).numpy() for one in x]
    values = np.linalg.eigvalsh(np.corrcoef(rows)).clip(min=0) + 1e-5
    expected = -(np.log(values) + 1 / values).sum()
    assert jacobian_covariance(model, None, (x, y)) == pytest.approx(expected, rel=1e-4)


def test_samples_that_are_alike_give_a_real_number():
    model, (x, y) = seeded(perceptron), vectors(8)
    found = jacobian_covariance(model, None, (x[[0, 0, 0, 1]].repeat(2, 1), y))
    assert -1e6 < found < -4e5


def test_synflow_is_the_flow_of_absolute_weights():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(inplace=True)),
        *(nn.Linear(6, 5, bias=False), nn.LayerNorm(5), nn.ReLU()),
        nn.Linear(5, 3, bias=False),
    )
    product = torch.ones(4, dtype=torch.float64)
    for layer in model[::3]:
        product = layer.weight.double().abs() @ product
    # By the theorem of Euler, each of the three layers has the whole flow.
    for x in (torch.randn(7, 4), torch.zeros(2, 4)):
        assert synflow(model, None, (x, torch.arange(len(x)))) == pytest.approx(math.log(3 * product.sum().item()))


def test_synflow_of_deep_networks_does_not_overflow():
    deep = nn.Sequential(*(nn.Linear(64, 64) for _ in range(60)))
    assert 60 < synflow(deep, None, (torch.randn(2, 64), None)) < 200


def test_tied_weights_are_one_weight():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model = seeded(Tied)
    squared = model.a.weight.detach().abs() @ model.a.weight.detach().abs()
    assert math.exp(synflow(model, None, vectors())) == pytest.approx(2 * float(squared.sum()))


@pytest.mark.parametrize("score", SCORES)
def test_batches_are_the_loss_on_all_data(score):
    model, (x, y) = seeded(perceptron), vectors(7)
    assert score(model, cross_entropy, [(x[:2], y[:2]), (x[2:], y[2:])]) == pytest.approx(
        score(model, cross_entropy, (x, y))
    )


@pytest.mark.parametrize("score", OF_THE_LOSS)
def test_a_sum_of_losses_is_their_sum(score):
    model, (x, _) = seeded(perceptron), vectors(7)
    target = torch.zeros(7, 3, dtype=torch.float64)
    total = nn.MSELoss(reduction="sum")
    whole = score(model, total, (x, target))
    assert score(model, total, [(x[:2], target[:2]), (x[2:], target[2:])]) == pytest.approx(whole)
    power = {grad_norm: 1, snip: 1}.get(score, 2)
    assert whole == pytest.approx(score(model, mse_loss, (x, target)) * 21**power)


@pytest.mark.parametrize("score", SCORES)
def test_the_model_and_the_random_generators_are_left_unchanged(score):
    model, data = seeded(convolutional), images()
    model[1].running_mean += 1
    model[0].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    inputs = data[0].clone()
    before = copy.deepcopy(model)
    random = torch.get_rng_state()
    with torch.no_grad():
        first = score(model, cross_entropy, data)
    assert torch.equal(torch.get_rng_state(), random)
    torch.manual_seed(5)  # dropout does not act
    assert score(model, cross_entropy, data) == pytest.approx(first, rel=1e-12)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before.state_dict()[name])
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [True] * 6
    assert [p.grad is None for p in model.parameters()] == [False] + [True] * 5
    assert not any(m._forward_hooks for m in model.modules())
    assert torch.equal(data[0], inputs)


class OfTokens(nn.Module):
    """Reads a mapping of token ids, as models of Hugging Face do, and returns an object with logits."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        states = self.layer(self.embedding(input_ids), src_key_padding_mask=attention_mask == 0)
        return type("Output", (), {"logits": self.out(states.mean(1))})()


def test_transformers_on_token_ids():
    model = seeded(OfTokens)
    inputs = {"input_ids": torch.arange(12).reshape(3, 4) % 10, "attention_mask": torch.ones(3, 4)}
    for score in (fisher, grad_norm, grasp, snip, synflow):
        assert math.isfinite(score(model, cross_entropy, (inputs, torch.arange(3))))
    with pytest.raises(DataError, match="inputs are integers"):
        jacobian_covariance(model, cross_entropy, (inputs["input_ids"], torch.arange(3)))


@pytest.mark.parametrize("score", SCORES)
def test_what_has_no_score(score):
    model, data = seeded(perceptron), vectors()
    with pytest.raises(ArgumentTypeError, match=r"model must be a torch.nn.Module, got the class"):
        score(nn.Linear, cross_entropy, data)
    with pytest.raises(DataError, match="no sample"):
        score(model, cross_entropy, [])
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    with pytest.raises(NonFiniteError, match="not finite"):
        score(model, cross_entropy, data)
    if score is not jacobian_covariance:
        with pytest.raises((NoSynapseError, DataError), match="trainable weight"):
            score(seeded(perceptron).requires_grad_(False), cross_entropy, data)
    if score in OF_THE_LOSS:
        with pytest.raises(LossError):
            score(seeded(perceptron), "cross_entropy", data)


def test_outputs_that_do_not_depend_on_the_inputs_have_no_jacobian():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = nn.Parameter(torch.zeros(1, 3))

        def forward(self, x):
            return self.scores.expand(len(x), 3) + 0 * x[:, :3]

    with pytest.raises(DataError, match="sample 0 is constant"):
        jacobian_covariance(Constant(), None, vectors())


def test_a_network_without_flow_has_no_synflow():
    class Zero(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0

    with pytest.raises(NonFiniteError, match="flow through the absolute weights is 0"):
        synflow(Zero(4, 3), None, vectors())
