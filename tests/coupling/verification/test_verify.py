import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.errors import GradientWarning, IdentityError, PrecisionWarning, UnsupportedOperationError
from tests.cases import CASES


@pytest.mark.parametrize(("kind", "name"), [("flow", "cnn"), ("energy", "cnn"), *(("signed", name) for name in CASES)])
def test_verify(name, kind):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data, kind=kind)
    table = P.verify(1e-9)
    assert set(table["name"]) >= {s.name for s in P.synapses}
    norms = {n: float(torch.linalg.vector_norm(g)) for n, g in P.split(P.gradient()).items()}
    for row in table.itertuples():
        assert row.gradient == pytest.approx(norms.get(row.name, 0.0), rel=1e-9)


def test_verify_over_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Dropout(), nn.Linear(3, 2)).double()
    x, y = torch.randn(7, 4).double(), torch.randn(7, 2).double()
    loader = DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True)
    assert len(lg.NeuralCoupling(model, F.mse_loss, loader).verify(1e-12)) == 2
    assert len(lg.NeuralCoupling(model, F.mse_loss, (x, y), training=True).verify(1e-12)) == 2
    assert len(lg.NeuralCoupling(model, nn.MSELoss(reduction="sum"), loader).verify(1e-12)) == 2


def test_verify_names_what_is_wrong():
    class Wrong(nn.Module):
        """A network whose second weight acts otherwise once P is made."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)
            self.changed = False

        def forward(self, x):
            y = self.second(self.first(x).tanh())
            return y.square() if self.changed else y

    model, data = Wrong().double(), (torch.randn(5, 4).double(), torch.randn(5, 2).double())
    P = lg.NeuralCoupling(model, F.mse_loss, data)
    P.verify()
    model.changed = True
    with pytest.raises(IdentityError, match=r"'first\.weight' by .*, 'second\.weight' by "):
        P.verify()
    with pytest.raises(UnsupportedOperationError, match="kind='signed'"):
        lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude").verify()


def test_verify_sees_a_transpose_that_is_none(monkeypatch):
    P = lg.NeuralCoupling(*CASES["mlp"].make())
    monkeypatch.setattr(P, "push", torch.zeros_like)
    with pytest.raises(IdentityError, match="not the transpose"):
        P.verify()


# rounding ---------------------------------------------------------------------------------------------


def tanh_layers(depth, width):
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.Tanh())]
    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), *hidden, nn.Linear(width, 3))


class Residual(nn.Module):
    """Residual blocks with norms, which take some steps in single precision."""

    def __init__(self, depth, width=16):
        super().__init__()
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            h = x.float()
            x = x + F.relu(block((h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)))
        return self.last(x)


class Tokens(nn.Module):
    """A normalised image as tokens: the gradient that comes back to the norm has strides of its own."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 1, bias=False), norm
        self.mix, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        return self.head(torch.tanh(tokens + self.mix(tokens)).mean(1))


def features(dtype, samples=12):
    return torch.randn(samples, 8).to(dtype), torch.randint(3, (samples,))


NETWORKS = {
    "narrow": lambda: tanh_layers(1, 8),
    "wide": lambda: tanh_layers(3, 48),
    "deep": lambda: tanh_layers(16, 12),
    "residual": lambda: Residual(8),
    "recurrent": lambda: nn.Sequential(nn.Unflatten(1, (4, 2)), nn.LSTM(2, 6, batch_first=True), Last(6)),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(8, 3)
    ),
    "images": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)),
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    ),
}


class Last(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(width, 3)

    def forward(self, outputs):
        return self.head(outputs[0][:, -1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_right_couplings_pass_in_their_precision(name, dtype):
    for training in (False, True):
        P = lg.NeuralCoupling(NETWORKS[name]().to(dtype), F.cross_entropy, features(dtype), training=training)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = P.verify()
        assert (table["difference"] < 0.03).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_right_couplings_pass_under_autocast(dtype, scale):
    with torch.autocast("cpu", dtype=dtype):
        for name in ("wide", "residual", "images"):
            P = lg.NeuralCoupling(NETWORKS[name](), lambda o, t: scale * F.cross_entropy(o, t), features(torch.float32))
            assert (P.verify()["difference"] < 0.03).all()


@pytest.mark.parametrize("kind", ["flow", "energy"])
def test_kinds_over_batches_in_half_precision(kind):
    x, y = features(torch.bfloat16)
    data = [(x[:7], y[:7]), (x[7:], y[7:])]
    for include in (None, ["2", "4"]):
        P = lg.NeuralCoupling(tanh_layers(2, 12).bfloat16(), F.cross_entropy, data, kind=kind, include=include)
        assert (P.verify()["difference"] < 0.02).all()


def test_rounding_of_what_a_pass_computes_is_that_of_training():
    """Biases are added by the operation itself, so that the activations of P's pass are the model's own."""
    model, data = Residual(6).bfloat16(), features(torch.bfloat16)
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    gradients = torch.autograd.grad(
        F.cross_entropy(model(data[0]), data[1]), [p for p in model.parameters() if p.ndim > 1]
    )
    torch.testing.assert_close(P.gradient(), torch.cat([g.flatten() for g in gradients]).float(), rtol=1e-2, atol=1e-5)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has other settings")
def test_shortened_products_widen_the_tolerance():
    """TF32 rounds products of single precision to 10 bits."""
    rounding = lg.coupling.verification.verify._rounding_of_products
    places = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        assert rounding(torch.device("cuda")) == 0.0
        for place in places:
            place.fp32_precision = "tf32"
            assert rounding(torch.device("cuda")) == 2.0**-10
            place.fp32_precision = "ieee"
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
    assert rounding(torch.device("cpu")) in (0.0, 2.0**-10, 2.0**-7)


def test_gradients_that_vanish_are_not_taken_for_faults():
    """Of terms that cancel, roundings are left, which are no smaller than the gradient itself."""
    x, y = features(torch.float64)
    losses = [
        lambda o, t: (o - o.detach()).square().mean(),
        lambda o, t: F.softmax(o, -1).sum(-1).mean(),
        lambda o, t: F.cross_entropy(o - o.mean(0), t) * 0,
    ]
    for loss in losses:
        for dtype in (torch.float64, torch.float32, torch.float16):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PrecisionWarning)
                lg.NeuralCoupling(tanh_layers(1, 8).to(dtype), loss, (x.to(dtype), y)).verify()
    norm = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    lg.NeuralCoupling(norm, lambda o, t: o.mean(), (x, y), training=True).verify()


# who is wrong -----------------------------------------------------------------------------------------


def faulty(P, factor, name=None):
    """The same coupling with wrong products into a weight, or into all."""
    right = P.pull

    def pull(block):
        found = right(block).clone()
        for s in P.synapses:
            if name in (None, s.name):
                found[s.offset : s.offset + s.numel] *= factor
        return found

    P.pull = pull
    return P


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("factor", "name"), [(0.85, None), (0.0, "2.weight"), (1.5, "0.weight")])
def test_faults_are_found_in_every_precision(dtype, factor, name):
    P = lg.NeuralCoupling(tanh_layers(2, 16).to(dtype), F.cross_entropy, features(dtype))
    with pytest.raises(IdentityError, match=r"P is wrong: along the difference the loss has the slope .* there"):
        faulty(P, factor, name).verify()


def test_a_missing_path_is_found(monkeypatch):
    """A residual network of which P forgets the direct way to the loss."""
    direct = lg.coupling.tracing.tape.Tape.direct_gradients
    monkeypatch.setattr(
        lg.coupling.tracing.tape.Tape,
        "direct_gradients",
        lambda tape: [None if g is None else g / 2 for g in direct(tape)],
    )
    for dtype in (torch.float64, torch.bfloat16):
        P = lg.NeuralCoupling(Residual(4).to(dtype), F.cross_entropy, features(dtype))
        with pytest.raises(IdentityError, match="P is wrong"):
            P.verify()


def test_faults_are_found_where_the_model_runs_in_one_precision_only():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tanh_layers(1, 8)

        def forward(self, x):
            assert x.dtype == torch.float32
            return self.net(x)

    x, y = features(torch.float32)
    for model, training in ((Single(), False), (nn.Sequential(tanh_layers(1, 8), nn.Dropout(0.1)), True)):
        P = lg.NeuralCoupling(model, F.cross_entropy, (x, y), training=training)
        P.verify()
        with pytest.raises(IdentityError, match="P is wrong"):
            faulty(P, 0.9).verify()


NORMS = {
    "batch": lambda: nn.BatchNorm2d(8),
    "batch, no statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "instance": lambda: nn.InstanceNorm2d(8, affine=True),
    "group": lambda: nn.GroupNorm(2, 8),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_one_sample_through_a_norm(name, training):
    """P is right whatever torch makes of it; where autograd is wrong, verify says so and hands the table out."""
    model = Tokens(NORMS[name]()).double()
    data = torch.randn(1, 3, 4, 4).double(), torch.tensor([1])
    P = lg.NeuralCoupling(model, F.cross_entropy, data, training=training)
    ours, step = P.split(P.gradient())["conv.weight"], torch.randn(8, 3, 1, 1).double()

    def loss(distance):
        moved = {"conv.weight": model.conv.weight + distance * step}
        return F.cross_entropy(torch.func.functional_call(model, moved, data[0]), data[1])

    model.train(training)
    with torch.no_grad():
        slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    (theirs,) = torch.autograd.grad(loss(0), model.conv.weight)
    torch.testing.assert_close((ours * step).sum(), slope, rtol=1e-5, atol=1e-8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = P.verify()
    assert list(table["name"]) == ["conv.weight", "mix.weight", "head.weight"]
    is_right = torch.allclose((theirs * step).sum(), slope, rtol=1e-4, atol=1e-7)
    assert [w.category for w in caught] == ([] if is_right else [GradientWarning])


def wrong_gradient(monkeypatch, factor):
    """Autograd as it would be if torch had a wrong derivative of tanh."""
    plain = lg.coupling.verification.verify.plain_gradient

    def wrong(*args):
        found = plain(*args)
        found.by_name["0.weight"] *= factor
        return found

    monkeypatch.setattr(lg.coupling.verification.verify, "plain_gradient", wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_autograd_is_named_where_it_is_wrong(monkeypatch, dtype):
    P = lg.NeuralCoupling(tanh_layers(1, 8).to(dtype), F.cross_entropy, features(dtype))
    wrong_gradient(monkeypatch, 0.5)
    with pytest.warns(GradientWarning, match=r"autograd's gradient is wrong: it differs from P at '0\.weight'"):
        assert len(P.verify()) == 3


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return -g


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.mark.parametrize("function", [Reversed, StraightThrough])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_custom_functions_count_as_they_say(function, dtype):
    model = tanh_layers(1, 8)
    model[1] = Activation(function)
    P = lg.NeuralCoupling(model.to(dtype), F.cross_entropy, features(dtype))
    P.verify()
    with pytest.raises(IdentityError, match=rf"cannot be told .* a custom function \({function.__name__}\)"):
        faulty(P, 0.5, "0.weight").verify()


class Activation(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


def test_a_dispute_leaves_model_and_coupling_as_they_were():
    model, data = tanh_layers(1, 8), features(torch.float32)
    before = {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    strengths = P.in_strength(), P.out_strength()
    right, P.pull = P.pull, faulty(P, 0.5).pull
    with pytest.raises(IdentityError):
        P.verify()
    P.pull = right
    P.verify()
    for name, t in model.state_dict(keep_vars=True).items():
        assert id(t) == before[name][0]
        assert torch.equal(t, before[name][1])
    for a, b in zip(strengths, (P.in_strength(), P.out_strength()), strict=True):
        torch.testing.assert_close(a, b)
