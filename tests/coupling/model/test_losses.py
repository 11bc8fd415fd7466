"""Batches add up to the whole, whatever a mean loss divides by, or a warning or an error names the loss."""

import warnings
from functools import partial, wraps

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.coupling.model.losses import ignored_index, torchs_function
from linegraph.errors import BatchWeightWarning, DataError, LossError
from tests.comparison import close

SAMPLES = 11
CUTS = [slice(0, 2), slice(2, 7), slice(7, SAMPLES)]


def network(outputs=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


def cut(part, piece):
    return type(part)(cut(p, piece) for p in part) if isinstance(part, tuple) else part[piece]


def gradients(model, loss, x, y, **options):
    """On the whole and on unequal batches."""
    parts = [(x[piece], cut(y, piece)) for piece in CUTS]
    return tuple(lg.NeuralCoupling(model, loss, data, **options).gradient() for data in ((x, y), parts))


X = torch.linspace(-1, 2, SAMPLES * 5, dtype=torch.float64).view(SAMPLES, 5).sin()
REAL = torch.linspace(-2, 1, SAMPLES * 4, dtype=torch.float64).view(SAMPLES, 4).cos()
CLASSES = torch.tensor([0, 1, 2, 3, 3, 1, 0, 2, 1, 1, 3])
SHARES = REAL.softmax(1)
SIGNS = REAL.sign()
IGNORED = CLASSES.masked_fill(torch.tensor([1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1]).bool(), -100)
WEIGHTS = torch.tensor([1, 5, 0.2, 3]).double()
MARGIN_LABELS = torch.tensor([[0, 2, -1, -1], [3, -1, -1, -1]]).repeat(6, 1)[:SAMPLES]

KNOWN = {
    "L1Loss": (nn.L1Loss(), REAL),
    "NLLLoss": (nn.NLLLoss(WEIGHTS), IGNORED),
    "PoissonNLLLoss": (nn.PoissonNLLLoss(), REAL.abs()),
    "KLDivLoss": (nn.KLDivLoss(reduction="batchmean"), SHARES),
    "MSELoss": (nn.MSELoss(), REAL),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), SHARES),
    "HingeEmbeddingLoss": (nn.HingeEmbeddingLoss(), SIGNS),
    "MultiLabelMarginLoss": (nn.MultiLabelMarginLoss(), MARGIN_LABELS),
    "SmoothL1Loss": (nn.SmoothL1Loss(beta=0.3), REAL),
    "HuberLoss": (nn.HuberLoss(delta=0.3), REAL),
    "SoftMarginLoss": (nn.SoftMarginLoss(), SIGNS),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.1), IGNORED),
    "MultiLabelSoftMarginLoss": (nn.MultiLabelSoftMarginLoss(WEIGHTS), SHARES),
    "MultiMarginLoss": (nn.MultiMarginLoss(weight=WEIGHTS), CLASSES),
}
"""By the name of the class, losses of outputs and targets."""

OF_THREE = {
    "CosineEmbeddingLoss": lambda o, t: nn.CosineEmbeddingLoss()(o, t[0], t[1][:, 0]),
    "GaussianNLLLoss": lambda o, t: nn.GaussianNLLLoss()(o, t[0], t[0].abs()),
    "MarginRankingLoss": lambda o, t: nn.MarginRankingLoss(margin=0.1)(o, t[0], t[1]),
    "TripletMarginLoss": lambda o, t: nn.TripletMarginLoss()(o, t[0], t[1]),
    "TripletMarginWithDistanceLoss": lambda o, t: nn.TripletMarginWithDistanceLoss()(o, t[0], t[1]),
    "CTCLoss": lambda o, t: nn.CTCLoss()(
        o.unflatten(1, (2, 2)).movedim(1, 0).log_softmax(2), t[2], torch.full((len(o),), 2), t[2][:, 0]
    ),
}
"""Losses of more than outputs and targets, which a function gives what they take."""


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.filterwarnings("error::linegraph.errors.BatchWeightWarning")
def test_batches_of_torchs_losses_add_up(name):
    loss, y = KNOWN[name]
    whole, parts = gradients(network(), loss, X, y)
    close(parts, whole)


def test_all_of_torchs_losses_are_tried():
    elsewhere = {"NLLLoss2d", "BCELoss", "LinearCrossEntropyLoss"}
    assert KNOWN.keys() | OF_THREE.keys() | elsewhere >= set(nn.modules.loss.__all__)


@pytest.mark.parametrize("name", OF_THREE)
@pytest.mark.filterwarnings("error::linegraph.errors.BatchWeightWarning")
def test_batches_of_losses_of_three_add_up(name):
    whole, parts = gradients(network(), OF_THREE[name], X, (REAL, SIGNS, torch.ones(SAMPLES, 1).long()))
    close(parts, whole)


NAMED = {
    "ignore index of its own": (nn.CrossEntropyLoss(ignore_index=1), CLASSES),
    "ignored by default": (F.cross_entropy, IGNORED),
    "index out of the classes": (nn.CrossEntropyLoss(WEIGHTS, ignore_index=255), IGNORED.where(IGNORED >= 0, 255)),
    "weights of classes": (partial(F.cross_entropy, weight=WEIGHTS), IGNORED),
    "a partial of a partial": (partial(partial(F.cross_entropy, weight=WEIGHTS), ignore_index=3), CLASSES),
    "probabilities": (nn.CrossEntropyLoss(WEIGHTS), SHARES),
    "probabilities and smoothing": (partial(F.cross_entropy, label_smoothing=0.2), SHARES),
    "a function": (F.huber_loss, REAL),
    "a bound method": (nn.CrossEntropyLoss(ignore_index=2).forward, CLASSES),
    "a partial of a module": (partial(nn.CrossEntropyLoss(ignore_index=2)), CLASSES),
    "compiled": (torch.compile(nn.CrossEntropyLoss(ignore_index=2)), CLASSES),
    "divergence by elements": (partial(F.kl_div, log_target=True), SHARES.log()),
    "of a subclass": (type("Mine", (nn.CrossEntropyLoss,), {})(ignore_index=0), CLASSES),
    "targets of bytes": (nn.CrossEntropyLoss(WEIGHTS), CLASSES.byte()),
    "one column": (F.mse_loss, REAL[:, :1].expand(-1, 4)),
}


@pytest.mark.filterwarnings("error::linegraph.errors.BatchWeightWarning")
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", NAMED)
def test_what_is_known_of_a_loss(name):
    loss, y = NAMED[name]
    whole, parts = gradients(network(), loss, X, y)
    close(parts, whole)


def test_outputs_between_0_and_1():
    model = nn.Sequential(network(), nn.Sigmoid())
    close(*gradients(model, nn.BCELoss(weight=WEIGHTS), X, SHARES))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.MSELoss(size_average=False),
        lambda: partial(F.mse_loss, size_average=False),
        lambda: nn.MSELoss(reduction="sum").forward,
    ],
)
@pytest.mark.filterwarnings("ignore:size_average")
def test_older_and_other_ways_to_say_that_a_loss_sums(make):
    close(*gradients(network(), make(), X, REAL))


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyLoss"), reason="not in this version of torch")
def test_a_loss_that_has_the_last_layer():
    loss = nn.LinearCrossEntropyLoss(4, 3, weight=WEIGHTS[:3], ignore_index=1).double()
    close(*gradients(network(), loss, X, CLASSES.clamp(max=2)))


def tokens(ignored=-100):
    """Sequences of other lengths in every batch, with padding at other places."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(9, 6), nn.Tanh(), nn.Linear(6, 7)).double()
    data = []
    for sequences, length in ((3, 4), (2, 6), (4, 2)):
        y = torch.randint(7, (sequences, length))
        y[0, 1:] = ignored
        data.append((torch.randint(9, (sequences, length)), y))
    return model, data


def gradient_by_tokens(model, data, ignored=-100):
    """By autograd, of all tokens at once."""
    outputs = torch.cat([model(x).flatten(0, 1) for x, _ in data])
    loss = F.cross_entropy(outputs, torch.cat([y.flatten() for _, y in data]), ignore_index=ignored)
    weights = [p for p in model.parameters() if p.ndim > 1]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])


class Transposed(nn.Module):
    """Classes in the second dimension, as torch has it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).transpose(1, 2)


@pytest.mark.parametrize("ignored", [-100, 3])
def test_tokens(ignored):
    model, data = tokens(ignored)
    P = lg.NeuralCoupling(Transposed(model), nn.CrossEntropyLoss(ignore_index=ignored), data)
    close(P.gradient(), gradient_by_tokens(model, data, ignored))
    assert len(P.verify(1e-9)) == 2
    flat = [(x, y.flatten()) for x, y in data]  # whose lengths do not agree with those of the inputs
    outputs = nn.Sequential(model, nn.Flatten(0, 1))
    close(lg.NeuralCoupling(outputs, partial(F.cross_entropy, ignore_index=ignored), flat).gradient(), P.gradient())


def of_tokens(outputs, targets):
    return F.cross_entropy(outputs.transpose(1, 2), targets)


class Labelled(nn.Module):
    """Computes its own loss, as Hugging Face's models do."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, labels):
        return {"loss": of_tokens(self.model(input_ids), labels)}


@pytest.mark.parametrize("form", ["a function", "computed by the model", "of the batch alone"])
def test_means_over_tokens_are_named_and_can_be_stated(form):
    model, data = tokens()
    loss = of_tokens
    if form != "a function":
        data = [({"input_ids": x, "labels": y}, y if form == "computed by the model" else None) for x, y in data]
        model, loss = Labelled(model), lambda outputs, _: outputs["loss"]

    def count(inputs, targets):
        return ((inputs["labels"] if targets is None else targets) != -100).sum()

    P = lg.NeuralCoupling(model, loss, data)
    with pytest.warns(BatchWeightWarning, match=r"the loss .*(of_tokens|lambda).* batch_weight="):
        P.gradient()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        P.gradient()  # once is enough
        stated = lg.NeuralCoupling(model, loss, data, batch_weight=count)
        plain = [(x["input_ids"], x["labels"]) if isinstance(x, dict) else (x, y) for x, y in data]
        close(stated.gradient(), gradient_by_tokens(getattr(model, "model", model), plain))


def own(function):
    @wraps(function)
    def loss(outputs, targets):
        return function(outputs, targets)

    return loss


class Weighted(nn.CrossEntropyLoss):
    def forward(self, outputs, targets):
        return super().forward(outputs, targets) + 0


NO_MEANS = {
    "ignored": (own(F.cross_entropy), IGNORED),
    "weighted": (lambda o, t: F.cross_entropy(o, t, WEIGHTS), CLASSES),
    "a module of its own": (Weighted(WEIGHTS), CLASSES),
    "a root": (lambda o, t: F.mse_loss(o, t).sqrt(), REAL),
    "a sum": (lambda o, t: F.mse_loss(o, t, reduction="sum"), REAL),
    "a correlation": (lambda o, t: -torch.corrcoef(torch.stack([o.flatten(), t.flatten()]))[0, 1], REAL),
    "between samples": (lambda o, t: torch.cdist(o, o).mean() + 0 * t.sum(), REAL),
}
MEANS = {
    "a function": (lambda o, t: F.mse_loss(o, t), REAL),
    "with a penalty": (lambda o, t: F.cross_entropy(o, t) + 3.0, CLASSES),
    "per sample": (lambda o, t: (o - t).square().sum(1).mean(), REAL),
    "of several targets": (lambda o, t: F.mse_loss(o, t[0]) + F.cross_entropy(o, t[1]), (REAL, CLASSES)),
    "drawn": (lambda o, t: F.mse_loss(o, t + torch.randn_like(t)), REAL),
    "nothing but outputs": (lambda o, t: o.square().mean(), REAL),
}


@pytest.mark.parametrize("name", NO_MEANS)
def test_a_loss_that_is_no_mean_over_samples_is_named(name):
    loss, y = NO_MEANS[name]
    P = lg.NeuralCoupling(network(), loss, [(X[piece], y[piece]) for piece in CUTS])
    hint = "reduction = 'sum'" if name == "a sum" else "in the mean"
    with pytest.warns(BatchWeightWarning, match=rf"the loss .*{hint}.*batch_weight="):
        P.gradient()


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.filterwarnings("error")
def test_a_mean_over_samples_is_not(name):
    loss, y = MEANS[name]
    whole, parts = gradients(network(), loss, X, y)
    if name != "drawn":
        close(parts, whole)


@pytest.mark.filterwarnings("error")
def test_one_batch_is_not_questioned():
    loss, y = NO_MEANS["a root"]
    for data in ((X, y), [(X, y)], torch.utils.data.DataLoader(list(zip(X, y, strict=True)), 20)):
        lg.NeuralCoupling(network(), loss, data).gradient()


def test_the_loss_of_a_batch_whose_targets_are_all_ignored():
    ignored = CLASSES.masked_fill(torch.arange(SAMPLES) < 7, -100)
    whole, parts = gradients(network(), nn.CrossEntropyLoss(), X, ignored)
    close(parts, whole)
    whole, parts = gradients(network(), nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1, 0, 1]).double()), X, CLASSES)
    close(parts, whole)
    with pytest.raises(DataError, match="all batches have weight 0"):
        lg.NeuralCoupling(network(), nn.CrossEntropyLoss(), [(X, CLASSES * 0 - 100)] * 2)


def test_maps_of_other_sizes():
    """Means over pixels, in images of one size a batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 1)).double()
    data = [(torch.randn(n, 2, *size).double(), torch.randint(2, (n, *size))) for n, size in ((2, (4, 5)), (3, (2, 3)))]
    weights = [p for p in model.parameters() if p.ndim > 1]

    def true(loss, targets):
        sums = sum(loss(model(x), t, reduction="sum") for (x, _), t in zip(data, targets, strict=True))
        gradient = torch.autograd.grad(sums / sum(t.numel() for t in targets), weights)
        return torch.cat([g.flatten() for g in gradient])

    labels, maps = [y for _, y in data], [F.one_hot(y).movedim(3, 1).double() for _, y in data]
    close(lg.NeuralCoupling(model, F.cross_entropy, data).gradient(), true(F.cross_entropy, labels))
    in_maps = [(x, t) for (x, _), t in zip(data, maps, strict=True)]
    close(lg.NeuralCoupling(model, nn.MSELoss(), in_maps).gradient(), true(F.mse_loss, maps))
    with pytest.warns(BatchWeightWarning, match="different numbers of elements per sample"):
        lg.NeuralCoupling(model, lambda o, t: F.mse_loss(o, t), in_maps).gradient()


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_targets_that_are_repeated():
    model = network(1)
    parts = [(X[piece], REAL[piece, 0]) for piece in CUTS]
    with pytest.raises(DataError, match=r"the outputs \(2, 1\) and the targets \(2,\) differ in shape"):
        lg.NeuralCoupling(model, F.mse_loss, parts).gradient()


# stated ----------------------------------------------------------------------------------------------


def test_weights_that_are_stated():
    model, loss = network(), lambda o, t: F.mse_loss(o, t).sqrt()
    parts = [(X[piece], REAL[piece]) for piece in CUTS]
    weights = [p for p in model.parameters() if p.ndim > 1]
    each = [torch.cat([g.flatten() for g in torch.autograd.grad(loss(model(x), y), weights)]) for x, y in parts]
    P = lg.NeuralCoupling(model, loss, parts, batch_weight=lambda x, y: float(len(x)) ** 0.5)
    sizes = torch.tensor([2.0, 5, 4]).double().sqrt()
    close(P.gradient(), sum(size * g for size, g in zip(sizes, each, strict=True)) / sizes.sum())
    assert len(P.verify(1e-9)) == 2
    left_out = lg.NeuralCoupling(model, loss, parts, batch_weight=lambda x, y: len(x) != 5)
    close(left_out.gradient(), (each[0] + each[2]) / 2)
    first_left_out = lg.NeuralCoupling(model, loss, parts, batch_weight=lambda x, y: torch.tensor(len(x) != 2))
    close(first_left_out.gradient(), (each[1] + each[2]) / 2)


@pytest.mark.parametrize("weight", [float("nan"), -1, float("inf"), None, "3", torch.ones(2), [1]])
def test_weights_that_are_none(weight):
    with pytest.raises(DataError, match=r"batch_weight gives .* for a batch"):
        lg.NeuralCoupling(network(), F.mse_loss, [(X, REAL)] * 2, batch_weight=lambda x, y: weight)


def test_what_cannot_be_a_weight():
    with pytest.raises(DataError, match="must be a function"):
        lg.NeuralCoupling(network(), F.mse_loss, [(X, REAL)] * 2, batch_weight=3)
    with pytest.raises(LossError, match=r"MSELoss says that it sums.*leave out one"):
        lg.NeuralCoupling(network(), nn.MSELoss(reduction="sum"), [(X, REAL)] * 2, batch_weight=lambda x, y: 1)


def test_all_who_make_couplings_take_weights():
    parts = [(X[piece], REAL[piece]) for piece in CUTS]
    options = {"batch_weight": lambda x, y: 1}
    model, loss = network(), lambda o, t: F.mse_loss(o, t).sqrt()
    P = lg.NeuralCoupling(model, loss, parts, kind="magnitude", **options)
    row = lg.CapacitanceTracker(model, loss, parts, kind="magnitude", **options).record()
    assert row["beta_eff"] == pytest.approx(lg.capacitance(P).beta_eff, rel=1e-9)
    table = lg.dynamics.drift(model, loss, parts, [1e-4], **options)
    assert float(table["relative_error"][0]) < 0.01
    classes = [(X[piece], CLASSES[piece]) for piece in CUTS]
    ranked = lg.rank({"a": network, "b": network}, classes, (X, CLASSES), epochs=2, **options)
    assert ranked["error"].isna().all()


def test_half_precision_has_room_for_many_elements():
    """Weights of batches are relative to the first."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 300), nn.Tanh(), nn.Linear(300, 300)).half()
    x, y = torch.randn(400, 8).half(), torch.randn(400, 300).half()
    P = lg.NeuralCoupling(model, F.mse_loss, [(x[:300], y[:300]), (x[300:], y[300:])])
    whole = lg.NeuralCoupling(model, F.mse_loss, (x, y)).gradient()
    assert float((P.gradient() - whole).norm() / whole.norm()) < 0.05


def test_the_function_that_a_loss_of_torchs_is():
    for loss in (F.mse_loss, nn.MSELoss(), nn.MSELoss().forward, partial(F.mse_loss, reduction="sum")):
        assert torchs_function(loss) is F.mse_loss
    assert torchs_function(nn.CrossEntropyLoss(label_smoothing=0.1)) is F.cross_entropy
    assert torchs_function(lambda o, t: F.mse_loss(o, t)) is None

    class Squared(nn.MSELoss):
        def forward(self, o, t):
            return 2 * super().forward(o, t)

    assert torchs_function(Squared()) is None


def test_the_index_that_a_loss_ignores():
    assert ignored_index(F.cross_entropy) == -100
    assert ignored_index(lambda o, t: o.sum()) == -100
    assert ignored_index(nn.CrossEntropyLoss(ignore_index=7)) == 7
    assert ignored_index(partial(partial(F.cross_entropy, ignore_index=3), reduction="sum")) == 3
