import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import nn

from linegraph.selection.linear_probes import LastLinearInputs, LayerInputs, LayerProbe, LinearProbe
from tests.comparison import close
from tests.selection.classified import net, samples


@pytest.mark.parametrize(("n", "features"), [(40, 6), (10, 30)])
def test_the_linear_probe_is_a_ridge_regression(n, features):
    torch.manual_seed(1)
    x, y = torch.randn(n, features), torch.arange(n) % 3
    other, labels = torch.randn(50, features), torch.randint(3, (50,))
    probe = LinearProbe()
    probe.add(x[:7], y[:7])
    probe.add(x[7:], y[7:])
    probe.fit()
    probe.test(other, labels)
    design = np.column_stack([x.numpy(), np.ones(n)]).astype(float)
    penalty = 0.01 * np.diag(design.T @ design).mean()
    fitted = Ridge(penalty, fit_intercept=False).fit(design, np.eye(3)[y])
    expected = fitted.predict(np.column_stack([other.numpy(), np.ones(50)]).astype(float)).argmax(1)
    assert probe.accuracy == pytest.approx(float((expected == labels.numpy()).mean()))


def test_the_features_are_what_enters_the_last_linear_layer():
    model, (x, _) = net(), samples(9)
    with LastLinearInputs(model) as features:
        model(x)
        close(features.take(), model[:4](x))
        assert features.take() is not None  # the pass above through part of the model
        assert features.take() is None
    model(x)
    assert features.take() is None
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_tokens_are_averaged():
    layer = nn.Linear(4, 2)
    x = torch.randn(3, 7, 4)
    with LastLinearInputs(layer) as features:
        layer(x)
        close(features.take(), x.mean(1))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_the_linear_probe_takes_labels_of_every_integer_type(dtype):
    (x, y), (other, labels) = samples(30), samples(40, 1)
    accuracies = []
    for kind in (torch.int64, dtype):
        probe = LinearProbe()
        probe.add(x, y.to(kind))
        probe.fit()
        probe.test(other, labels.to(kind))
        accuracies.append(probe.accuracy)
    assert accuracies[1] == pytest.approx(accuracies[0])


def test_the_linear_probe_leaves_out_samples_without_a_class():
    (x, y), (other, labels) = samples(30), samples(40, 1)
    ignored = torch.cat([y, torch.full((10,), -100)])
    probe, alone = LinearProbe(), LinearProbe()
    probe.add(torch.cat([x, torch.randn(10, 5)]), ignored)
    alone.add(x, y)
    for each in (probe, alone):
        each.fit()
    probe.test(torch.cat([other, x]), torch.cat([labels, torch.full_like(y, -100)]))
    alone.test(other, labels)
    assert probe.accuracy == pytest.approx(alone.accuracy)
    nothing = LinearProbe()
    nothing.add(x, torch.full_like(y, -100))
    nothing.fit()
    nothing.test(other, labels)
    assert math.isnan(nothing.accuracy)


def test_there_is_no_linear_probe_of_features_that_are_not_finite():
    x, y = samples(30)
    probe = LinearProbe()
    probe.add(torch.where(x > 2, math.inf, x), y)
    probe.fit()
    probe.test(x, y)
    assert math.isnan(probe.accuracy)


# probes of all layers -----------------------------------------------------------------------------------------------


def accuracy_of(seen, labels, others, true, probe=LayerProbe):
    """The accuracy of a probe that is fitted in two batches."""
    found = probe()
    found.add({name: x[:7] for name, x in seen.items()}, labels[:7])
    found.add({name: x[7:] for name, x in seen.items()}, labels[7:])
    found.fit()
    found.test(others, true)
    return found.accuracy


def layers(n, seed, widths=(6, 30)):
    """Features of several layers that depend on the labels, and the labels."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 3, n))
    return {
        f"layer {k}": torch.from_numpy(rng.normal(size=(n, width))) + labels[:, None] * (k + 1) / width
        for k, width in enumerate(widths)
    }, labels


@pytest.mark.parametrize("widths", [(4,), (40,), (6, 30), (3, 5, 2)])
def test_the_layer_probe_is_a_ridge_regression_on_standardised_features(widths):
    (seen, labels), (others, true) = layers(25, 0, widths), layers(300, 1, widths)
    mean, std = ({n: f(x.numpy()) for n, x in seen.items()} for f in (lambda x: x.mean(0), lambda x: x.std(0, ddof=1)))
    x, z = (
        np.hstack([(part[n].numpy() - mean[n]) / std[n] / np.sqrt(part[n].shape[1]) for n in seen])
        for part in (seen, others)
    )
    expected = Ridge((x**2).sum(1).mean()).fit(x, np.eye(3)[labels]).predict(z).argmax(1)
    assert accuracy_of(seen, labels, others, true) == pytest.approx((expected == true.numpy()).mean())


def test_there_may_be_more_classes_than_samples():
    (seen, _), (others, _) = layers(20, 0), layers(300, 1)
    labels, true = torch.arange(20) * 2, torch.randint(40, (300,))
    z = {name: (x - seen[name].mean(0)) / seen[name].std(0) / len(x[0]) ** 0.5 for name, x in seen.items()}
    y = {name: (x - seen[name].mean(0)) / seen[name].std(0) / len(x[0]) ** 0.5 for name, x in others.items()}
    x, other = torch.cat(list(z.values()), 1).numpy(), torch.cat(list(y.values()), 1).numpy()
    expected = Ridge((x**2).sum(1).mean()).fit(x, np.eye(40)[labels]).predict(other).argmax(1)
    probe = LayerProbe()
    probe.add(seen, labels)
    probe.fit()
    probe.test(others, torch.from_numpy(expected))
    assert probe.accuracy == pytest.approx(1)
    probe.test(others, true)
    assert probe.accuracy == pytest.approx((1 + (expected == true.numpy()).mean()) / 2)


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-5, 5))
def test_the_layer_probe_does_not_depend_on_the_units_of_a_layer(seed, factor, shift):
    (seen, labels), (others, true) = layers(20, seed), layers(40, seed + 1)
    other_units = [part | {"layer 1": factor * part["layer 1"] + shift} for part in (seen, others)]
    own, same = accuracy_of(seen, labels, others, true), accuracy_of(other_units[0], labels, other_units[1], true)
    assert own == pytest.approx(same, abs=1.5 / 40)  # rounding may decide one sample


def test_constant_features_and_layers_that_some_batches_lack_change_nothing():
    (seen, labels), (others, true) = layers(20, 0), layers(60, 1)
    own = accuracy_of(seen, labels, others, true)
    constant = {"a": torch.full((20, 4), 0.3) + 1e-9 * torch.randn(20, 4), "b": torch.zeros(20, 2)}
    elsewhere = {name: torch.randn(60, x.shape[1]) for name, x in constant.items()}
    assert accuracy_of(seen | constant, labels, others | elsewhere, true) == pytest.approx(own)
    partly, probe = {"layer 2": torch.randn(7, 3)}, LayerProbe()
    probe.add({name: x[:7] for name, x in seen.items()} | partly, labels[:7])
    probe.add({name: x[7:] for name, x in seen.items()}, labels[7:])
    probe.fit()
    probe.test(others, true)
    assert probe.accuracy == pytest.approx(own)


def test_the_layer_probe_leaves_out_samples_without_a_class():
    (seen, labels), (others, true) = layers(20, 0), layers(60, 1)
    ignored = {name: torch.cat([x, torch.randn(5, x.shape[1])]) for name, x in seen.items()}
    with_ignored = torch.cat([labels, torch.full((5,), -100)])
    own = accuracy_of(seen, labels, others, true)
    assert accuracy_of(ignored, with_ignored, others, true) == pytest.approx(own)


@pytest.mark.parametrize(
    "change",
    [
        lambda seen, labels: ({}, labels),
        lambda seen, labels: (seen, labels.double()),
        lambda seen, labels: (seen, torch.full_like(labels, -1)),
        lambda seen, labels: (seen | {"layer 0": torch.full_like(seen["layer 0"], math.inf)}, labels),
        lambda seen, labels: ({"layer 0": torch.ones(20, 3)}, labels),
    ],
    ids=["no layer", "no class indices", "no sample", "not finite", "constant"],
)
def test_there_is_no_layer_probe_without(change):
    seen, labels = change(*layers(20, 0))
    assert math.isnan(accuracy_of(seen, labels, *layers(30, 1)))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolve, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.norm, self.frozen = nn.LayerNorm(4), nn.Linear(4, 4).requires_grad_(False)
        self.mix, self.classify = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        self.maps = self.relu(self.convolve(x))
        self.tokens = self.norm(self.frozen(self.maps.flatten(2).mT))
        self.mixed = self.mix(self.mix(self.tokens))
        self.states = self.mixed.mean(1)
        return self.classify(self.relu(self.states.clone()))


def test_what_enters_layers_is_averaged_over_places_and_tokens():
    torch.manual_seed(0)
    model, x = Branches().double(), torch.randn(5, 3, 6, 8, dtype=torch.float64)
    with LayerInputs(model) as entering:
        model(x)
        found = entering.take(5)
        assert not entering.take(5)
        model(x)
        assert not entering.take(4)
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    assert list(found) == ["convolve", "mix", "classify"]  # neither frozen layers nor norms, which have no matrix
    halves = torch.stack([x[:, :, i, j].mean((2, 3)) for i in (slice(3), slice(3, 6)) for j in (slice(4), slice(4, 8))])
    close(found["convolve"], halves.permute(1, 2, 0).flatten(1))
    close(found["mix"], model.tokens.mean(1))
    close(found["classify"], model.states.relu())


def test_what_enters_a_layer_is_kept_before_it_is_overwritten():
    model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True)), torch.randn(6, 4)
    with LayerInputs(model) as entering:
        model(x)
        x.zero_()
        assert entering.take(6)["0"].abs().sum() > 0


def test_sequences_may_have_samples_in_their_second_dimension():
    recurrent, x = nn.GRU(4, 3).double(), torch.randn(7, 5, 4, dtype=torch.float64)
    with LayerInputs(recurrent) as entering:
        recurrent(x)
        close(entering.take(5)[""], x.mean(0))
    attention = nn.MultiheadAttention(4, 2, batch_first=True).double()
    with LayerInputs(attention) as entering:
        attention(x, x, x)
        close(entering.take(7)[""], x.mean(1))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.classify = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x, attention_mask=None, src_key_padding_mask=None):
        return self.classify(self.mix(x)[:, 0])


def test_padding_is_left_out_of_the_means_over_tokens():
    model, x, lengths = Tokens().double(), torch.randn(5, 7, 4, dtype=torch.float64), [7, 1, 3, 2, 0]
    tokens = torch.arange(7) < torch.tensor(lengths).unsqueeze(1)
    x[~tokens] = math.nan
    expected = torch.stack([x[k, :n].mean(0) if n else torch.zeros(4).double() for k, n in enumerate(lengths)])
    with LayerInputs(model) as entering:
        for named in ({"attention_mask": tokens.long()}, {"src_key_padding_mask": ~tokens}):
            model(x, **named)
            close(entering.take(5)["mix"], expected)
        model(x, tokens.float())
        close(entering.take(5)["mix"], expected)
        model(x)
        assert entering.take(5)["mix"].isnan().any()


def test_indices_of_words_enter_no_layer():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    with LayerInputs(model) as entering:
        model(torch.randint(9, (6, 3)))
        assert list(entering.take(6)) == ["2"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_half_precision_are_averaged_in_single(dtype):
    convolve, x = nn.Conv1d(2, 3, 1).to(dtype), torch.randn(4, 2, 6).to(dtype)
    with LayerInputs(convolve) as entering:
        convolve(x)
        close(entering.take(4)[""], x.float().unflatten(2, (2, 3)).mean(3).flatten(1), 1e-5)
