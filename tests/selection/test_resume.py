"""Rankings that were interrupted go on with the numbers of those that were not."""

import json
import random
import warnings
from collections import deque
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Sampler, TensorDataset

from linegraph.errors import ResumeWarning
from linegraph.selection import states, training
from tests.selection.runs import (
    EPOCHS,
    PARTLY,
    X,
    Y,
    check_same,
    killed_after,
    loader,
    net,
    rank,
    scheduled,
    seeded,
    sgd,
    two,
)


def by_default_argument(model):
    found = sgd(model)
    schedule = lr_scheduler.CosineAnnealingLR(found, 10)
    found.register_step_post_hook(lambda *_, schedule=schedule: schedule.step())
    return found


def by_method(model):
    found = sgd(model)
    schedule = lr_scheduler.CosineAnnealingLR(found, 10)
    found.register_step_post_hook(partial(_step, schedule))
    return found


def _step(schedule, *_):
    schedule.step()


def on_a_plateau(model):
    found = sgd(model)
    schedule = lr_scheduler.ReduceLROnPlateau(found, patience=1, factor=0.5)
    found.register_step_post_hook(lambda *_: schedule.step(1.0))
    return found


def by_hand(model):
    """A rate that a counter in a closure decides."""
    found, steps = sgd(model), 0

    def decay(*_):
        nonlocal steps
        steps += 1
        found.param_groups[0]["lr"] = 0.05 / (1 + steps)

    found.register_step_post_hook(decay)
    return found


def averaging(model):
    """Weights drawn to a moving average of themselves, which a hook keeps."""
    found = sgd(model)
    average = torch.optim.swa_utils.AveragedModel(model, avg_fn=lambda old, new, _: 0.9 * old + 0.1 * new)

    @torch.no_grad()
    def draw(*_):
        average.update_parameters(model)
        for p, mean in zip(model.parameters(), average.parameters(), strict=True):
            p.add_(0.1 * (mean - p))

    found.register_step_post_hook(draw)
    return found


class Counting(nn.Module):
    """Scales by a buffer that is not kept in ``state_dict``, by an attribute, and by what it did last."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.ones(()), persistent=False)
        self.calls, self.last = 0, deque(maxlen=2)

    def forward(self, x):
        if self.training:
            self.seen += 0.1
            self.calls += 1
            self.last.append(float(self.seen))
            self.made_later = self.calls / 50
        return x * self.seen / (1 + self.calls / 20) + sum(self.last) / 10 + getattr(self, "made_later", 0.0)


class Noisy(nn.Module):
    """Draws from the generators of NumPy and Python, and from one of its own."""

    def __init__(self):
        super().__init__()
        self.own, self.generator = np.random.default_rng(3), torch.Generator().manual_seed(1)

    def forward(self, x):
        if not self.training:
            return x
        noise = np.random.rand() + random.random() + self.own.random()  # noqa: NPY002
        return x * (1 + 0.1 * noise * torch.rand((), generator=self.generator))


class Extra(nn.Module):
    """Has a state that goes by ``get_extra_state``."""

    def __init__(self):
        super().__init__()
        self.scale = {"value": 1.0, "of": (1, 2)}

    def get_extra_state(self):
        return self.scale

    def set_extra_state(self, state):
        self.scale = state

    def forward(self, x):
        if self.training:
            self.scale["value"] *= 0.97
        return x * self.scale["value"]


def with_spectral_norm(model):
    """A weight that is made anew in every pass, in the memory of the one that is kept at first."""
    torch.nn.utils.spectral_norm(model[0])
    return model


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x):
        return self.layers(x)


class Annealed(nn.Module):
    """A loss whose smoothing fades with its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, outputs, targets):
        self.calls += 1
        self.scale *= 0.99
        return self.scale * F.cross_entropy(outputs, targets, label_smoothing=0.5 / self.calls)


def in_closure():
    calls = [0]

    def loss(outputs, targets):
        calls[0] += 1
        return F.cross_entropy(outputs, targets) * (1 + 1 / calls[0])

    return loss


class Learned(nn.Module):
    """A loss with a weight of its own, which the optimizer knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, outputs, targets):
        return F.cross_entropy(outputs * self.scale, targets)


def learned_loss():
    loss = Learned()
    return {"loss_fn": loss, "optimizer": lambda m: torch.optim.SGD([*m.parameters(), *loss.parameters()], lr=0.1)}


class Epochs(Sampler):
    """Another order in every epoch, by a counter of its own."""

    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        return iter(torch.randperm(60, generator=torch.Generator().manual_seed(self.epoch)).tolist())

    def __len__(self):
        return 60


class Augmented(Dataset):
    """Noise from a generator of the data's own."""

    def __init__(self):
        self.generator = np.random.RandomState(5)

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return X[i] + torch.as_tensor(0.1 * self.generator.randn(4), dtype=X.dtype), Y[i]


class InPlace(Sampler):
    """Shuffles its order in place, as an array, a tensor or a list."""

    def __init__(self, order):
        self.order = order

    def __iter__(self):
        if isinstance(self.order, torch.Tensor):
            self.order[:] = self.order[torch.randperm(60)]
        else:
            (random if isinstance(self.order, list) else np.random).shuffle(self.order)
        return iter([int(i) for i in self.order])

    def __len__(self):
        return 60


class Stream(IterableDataset):
    """Batches from a place that moves on with every pass."""

    def __init__(self):
        self.start = 0

    def __iter__(self):
        self.start += 7
        order = torch.arange(self.start, self.start + 60) % 60
        return iter([(X[i], Y[i]) for i in order])


class Batches:
    """Data of one's own, with a generator."""

    def __init__(self):
        self.generator = random.Random(4)

    def __iter__(self):
        parts = list(zip(X.split(16), Y.split(16), strict=True))
        self.generator.shuffle(parts)
        return iter(parts)


CASES = {
    "plain": dict,
    "loader": lambda: {"train": loader(shuffle=True)},
    "generator of a loader": lambda: {"train": loader(shuffle=True, generator=seeded())},
    "generator of a sampler": lambda: {"train": loader(sampler=RandomSampler(range(60), generator=seeded()))},
    "generator of a batch sampler": lambda: {
        "train": DataLoader(
            TensorDataset(X, Y),
            batch_sampler=BatchSampler(RandomSampler(range(60), generator=seeded()), 16, drop_last=True),
        )
    },
    "sampler with an epoch": lambda: {"train": loader(sampler=Epochs())},
    "list in a sampler": lambda: {"train": loader(sampler=InPlace(list(range(60))))},
    "array in a sampler": lambda: {"train": loader(sampler=InPlace(np.arange(60)))},
    "tensor in a sampler": lambda: {"train": loader(sampler=InPlace(torch.arange(60)))},
    "data with a generator": lambda: {"train": DataLoader(Augmented(), 16, shuffle=True)},
    "stream": lambda: {"train": DataLoader(Stream(), 16)},
    "data of one's own": lambda: {"train": Batches()},
    "valid with a generator": lambda: {"valid": DataLoader(Augmented(), 16)},
    "generator for both": lambda: dict.fromkeys(("train", "valid"), loader(shuffle=True, generator=seeded())),
    "cosine": lambda: {"optimizer": scheduled(lambda o: lr_scheduler.CosineAnnealingLR(o, 10))},
    "one cycle": lambda: {"optimizer": scheduled(lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40))},
    "function": lambda: {"optimizer": scheduled(lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step))},
    "sequence": lambda: {
        "optimizer": scheduled(
            lambda o: lr_scheduler.SequentialLR(
                o, [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)], [4]
            )
        )
    },
    "chain": lambda: {
        "optimizer": scheduled(
            lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 3), lr_scheduler.ExponentialLR(o, 0.9)])
        )
    },
    "plateau": lambda: {"optimizer": on_a_plateau},
    "default argument of a hook": lambda: {"optimizer": by_default_argument},
    "partial as a hook": lambda: {"optimizer": by_method},
    "counter of a hook": lambda: {"optimizer": by_hand},
    "average of weights": lambda: {"optimizer": averaging},
    "adam": lambda: {"optimizer": lambda m: torch.optim.Adam(m.parameters(), lr=0.01)},
    "amsgrad": lambda: {"optimizer": lambda m: torch.optim.AdamW(m.parameters(), lr=torch.tensor(0.01), amsgrad=True)},
    "no momentum": lambda: {"optimizer": partial(sgd, momentum=0.0)},
    "groups": lambda: {
        "optimizer": lambda m: torch.optim.SGD(
            [{"params": m[0].parameters(), "lr": 0.1}, {"params": m[3:].parameters()}], lr=0.01, momentum=0.5
        )
    },
    "dropout": lambda: {"candidates": two(middle=partial(nn.Dropout, 0.3))},
    "batch norm": lambda: {"candidates": {"a": partial(net, 5, partial(nn.BatchNorm1d, 5))}},
    "buffers and attributes": lambda: {"candidates": two(middle=Counting)},
    "spectral norm": lambda: {"candidates": {"a": lambda: with_spectral_norm(net())}},
    "lazy layers": lambda: {"candidates": {"a": Lazy}},
    "workers that are kept": lambda: {
        "candidates": {"a": net},
        "train": DataLoader(Augmented(), 30, num_workers=1, persistent_workers=True, generator=seeded()),
    },
    "extra state": lambda: {"candidates": two(middle=Extra)},
    "generators of a model": lambda: {"candidates": two(middle=Noisy)},
    "loss with a state": lambda: {"loss_fn": Annealed()},
    "loss with a state in its closure": lambda: {"loss_fn": in_closure()},
    "loss that learns": learned_loss,
}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_ranking_has_the_numbers_of_one_that_ran_through(name, tmp_path, monkeypatch):
    expected = rank(CASES[name])
    assert expected["error"].isna().all()
    files = {1: 2, 2: PARTLY}[len(expected)]  # the last candidate has the epochs 0 and 1
    killed_after(monkeypatch, files, CASES[name], tmp_path)
    trained, train = [], training._train_epoch
    monkeypatch.setattr(training, "_train_epoch", lambda *given: trained.append(1) or train(*given))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResumeWarning)
        check_same(rank(CASES[name], tmp_path), expected)
    assert len(trained) == EPOCHS - 1
    check_same(rank(CASES[name], tmp_path), expected)


def test_a_ranking_on_another_device_is_resumed(device, tmp_path, monkeypatch):
    data = (X.to(device), Y.to(device))
    make = lambda: {"candidates": two(middle=Counting), "train": data, "valid": data}  # noqa: E731
    expected = rank(make)
    killed_after(monkeypatch, PARTLY, make, tmp_path)
    check_same(rank(make, tmp_path), expected)


@pytest.mark.parametrize("name", ["generator for both", "buffers and attributes", "loss with a state", "stream"])
def test_the_callers_objects_stay_as_they_are_and_every_candidate_meets_the_same(name):
    made = CASES[name]()
    first, second = (rank(lambda: made) for _ in range(2))
    check_same(first, second)
    candidates = made.get("candidates", two())
    backwards = rank(lambda: made, candidates=dict(reversed(candidates.items())))
    for table in (first, backwards):
        table.attrs["history"] = table.attrs["history"].sort_values(["name", "epoch"], ignore_index=True)
    check_same(backwards.sort_values("name", ignore_index=True), first.sort_values("name", ignore_index=True))


class Opaque(nn.Module):
    """Scales by the calls of all of its kind, which its class counts."""

    count = 0

    def __init__(self):
        super().__init__()
        Opaque.count = 0

    def forward(self, x):
        if self.training:
            Opaque.count += 1
        return x / (1 + Opaque.count / 10)


class Holder(nn.Module):
    """Replaces an object that it holds by another one."""

    class Half:
        def __init__(self):
            self.value = 1.0

    class Full:
        def __init__(self, value):
            self.value = value

    def __init__(self):
        super().__init__()
        self.held = self.Half()

    def forward(self, x):
        if self.training:
            self.held = self.Full(self.held.value * 0.95)
        return x * self.held.value


def test_finished_candidates_are_kept_whatever_their_state(tmp_path, monkeypatch):
    make = lambda: {"candidates": {"a": partial(net, middle=Holder)}}  # noqa: E731
    first = rank(make, tmp_path)
    monkeypatch.setattr(training, "_train_epoch", None)
    check_same(rank(make, tmp_path), first)


@pytest.mark.parametrize("middle", [Holder, Opaque])
def test_what_cannot_be_put_back_is_trained_anew_with_a_warning(middle, tmp_path, monkeypatch):
    make = lambda: {"candidates": two(middle=middle)}  # noqa: E731
    expected = rank(make)
    killed_after(monkeypatch, PARTLY, make, tmp_path)
    with pytest.warns(ResumeWarning, match=r"b\.safetensors does not hold all states that the training of 'b' reads"):
        check_same(rank(make, tmp_path), expected)


def test_states_that_no_file_holds_are_trained_anew(tmp_path, monkeypatch):
    def optimizer(model):
        found = sgd(model)
        found.param_groups[0]["note"] = lambda: None
        return found

    expected = rank(dict, optimizer=optimizer)
    killed_after(monkeypatch, PARTLY, lambda: {"optimizer": optimizer}, tmp_path)
    with pytest.warns(ResumeWarning, match="trained anew"):
        check_same(rank(dict, tmp_path, optimizer=optimizer), expected)


# how states are found and written -------------------------------------------------------------------------------------


def test_states_are_written_with_their_types():
    kept = {
        "plain": [None, True, 3, 2.5, "x", b"y", float("inf"), 10**30],
        "containers": ({1, 2}, deque([1], 3), {(1, 2): [()]}, {"a": {2: 3.0}}),
        "numpy": (np.float32(1.5), np.arange(6.0).reshape(2, 3), np.array(2), np.bool_(True)),
        "torch": (torch.tensor([1j]), torch.ones(2, dtype=torch.bfloat16), torch.float16, torch.device("cpu")),
        "generators": [states.held(g) for g in (seeded(), np.random.default_rng(0), random.Random(0))],
    }
    tensors: dict = {}
    written = json.loads(json.dumps(states.encode(kept, tensors, "kept")))
    found = states.decode(written, tensors)
    assert training.digest(found) == training.digest(kept)
    for unknown in (object(), lambda: None, nn.ReLU(), [np.array(["a"])], {"a": {1: iter([])}}):
        with pytest.raises(states.UnstorableError, match="kept"):
            states.encode(unknown, {}, "kept")
