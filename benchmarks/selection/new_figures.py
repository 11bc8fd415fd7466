"""Figures of the first epochs that histories do not hold: averaged and annealed weights, larger probes, and others.

``record`` trains networks of the recorded runs again for their first epochs, with the same seeds and so to the same
weights, and takes these figures; ``new_features.py`` asks whether they tell more of the recorded final accuracies.

prefix     figures                                                                                       cost, in epochs
averaged   accuracy, loss and linear probe of the mean of the weights over the last half of the epoch    forward passes
annealed   of a copy that is trained for half an epoch more, while the learning rate falls to 0          0.5
longer     the same with a constant learning rate, to compare at equal cost                              0.5
half       of the network in the middle of the epoch                                                     forward pass
quarter    mean training losses in the quarters of the epoch                                             0
probes     ridge regressions on what enters the last linear layer for 256, 1,024 or all training images, forward pass
           with the penalty of the least leave-one-out error; vote of the nearest of 1,024; effective
           dimensions and log ratio of the variances within and between classes of 256
layers     ridge regressions on what enters all weights, means over tokens and over 2x2 places: on all   forward pass
           together (1,024 images), on that in the middle and the best (256 images)
weights    log of gradient over weight norm (mean, deviation over layers, last minus first), mean logs   256 images
           of stable ranks and spectral norms, shares of zeros that leave ReLU and of units always 0
coupling   of sums over the synapses of each layer (squared gradient, squared P w, flow, magnitude       about 100
           in-strength): the share of the last layer, and slope over depth and deviation over layers     products with P
           of the logs of their means; logs of spectral norm and stable rank of the signed P
predicted  mean margin of held-out logits in units of their deviation, and mean entropy                  forward pass
"""

import copy
import math
import random
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeClassifierCV
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

import linegraph as lg
from benchmarks.selection import recording
from benchmarks.selection.recording import BATCH, COUPLING_SAMPLES
from linegraph.files import write_whole
from linegraph.selection.linear_probes import LastLinearInputs

__all__ = ["READ_EPOCHS", "SUMS", "collect", "figures", "read_table", "record"]

TABLE = recording.RECORDED / "new_figures.parquet"

READ_EPOCHS = (1, 3, 5)
PROBED = 1024
RATES = {"annealed": lambda done: 1 - done, "longer": lambda done: 1.0}
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties of the ridge regressions, in units of the mean square of their features over all samples."""


def figures(model, optimizer, train, valid, epochs=READ_EPOCHS):
    """Train a model; the figures after some epochs, one row each, with accuracy and loss, which its history holds too.

    Args:
        model: the model, before training.
        optimizer: its optimizer.
        train: (images, labels) to train on, of which the first are read besides.
        valid: held-out (images, labels).
        epochs: the epochs after which figures are taken.
    """
    (x, y), rows = train, []
    first, probed = (x[:COUPLING_SAMPLES], y[:COUPLING_SAMPLES]), (x[:PROBED], y[:PROBED])
    for epoch in range(1, max(epochs) + 1):
        if epoch not in epochs:
            recording.train_epoch(model, optimizer, x, y)
            continue
        found, averaged = train_epoch(model, optimizer, train, valid)
        found |= timed("averaged", lambda averaged=averaged: of_averaged(averaged, train, valid))
        for name, rate in RATES.items():
            found |= timed(name, lambda rate=rate: of_branch(model, optimizer, train, valid, rate))
        features, scores = outputs(model, valid[0])
        found |= of_scores(scores, valid[1]) | prefixed("predicted", of_predictions(scores, valid[1]))
        found |= timed("probes", lambda features=features: of_features(model, train, (features, valid[1])))
        found |= timed("layers", lambda: of_layers(model, probed, valid))
        found |= timed("weights", lambda: of_weights(model, *first))
        found |= timed("coupling", lambda: of_coupling(model, first))
        rows.append({"epoch": epoch, **found})
    return pd.DataFrame(rows)


def prefixed(prefix, found):
    return {f"{prefix}_{name}": value for name, value in found.items()}


def timed(prefix, figures_):
    start = time.perf_counter()
    return prefixed(prefix, figures_() | {"seconds": time.perf_counter() - start})


# training ---------------------------------------------------------------------------------------------------------


def train_epoch(model, optimizer, train, valid):
    """Train as ``recording.train_epoch``; losses within the epoch, the network in its middle, and mean weights."""
    (x, y), batches, start = train, batches_of(train[0]), time.perf_counter()
    losses, middle = [], len(batches) // 2
    model.train()
    losses += [step(model, optimizer, x[i], y[i]) for i in batches[:middle]]
    found = prefixed("half", read(model, train, valid))
    averaged = AveragedModel(model.train())
    for indices in batches[middle:]:
        losses.append(step(model, optimizer, x[indices], y[indices]))
        averaged.update_parameters(model)
    quarters = torch.tensor(losses).tensor_split(4)
    found |= {f"quarter_{k + 1}": float(part.mean()) for k, part in enumerate(quarters)}
    return found | {"epoch_seconds": time.perf_counter() - start}, averaged


def batches_of(x):
    return [indices for indices in torch.randperm(len(x)).split(BATCH) if len(indices) > 1]


def step(model, optimizer, x, y):
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def of_averaged(averaged, train, valid):
    """The network with mean weights, whose batch norms have the statistics of PROBED training images."""
    update_bn(train[0][:PROBED].split(256), averaged)
    return read(averaged.module, train, valid)


def of_branch(model, optimizer, train, valid, rate):
    """A copy of the network after the first half of the next epoch, in which the learning rate is multiplied.

    The copy sees the batches that the network itself sees next.

    Args:
        model: the network.
        optimizer: its optimizer.
        train: as for :func:`figures`.
        valid: as for :func:`figures`.
        rate: the factor of the learning rate, a function of the share of the half epoch that is done.
    """
    x, y = train
    branch = copy.deepcopy(model).train()
    other = type(optimizer)(branch.parameters(), **optimizer.defaults)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    with torch.random.fork_rng(devices=()):
        batches = batches_of(x)
    batches = batches[: math.ceil(len(batches) / 2)]
    schedule = torch.optim.lr_scheduler.LambdaLR(other, lambda k: rate(k / len(batches)))
    for indices in batches:
        step(branch, other, x[indices], y[indices])
        schedule.step()
    return read(branch, train, valid)


def read(model, train, valid):
    """Accuracy and loss on held-out images, and a linear probe fitted to the images of P."""
    (x, y), n = train, COUPLING_SAMPLES
    features, scores = outputs(model, valid[0])
    probe = ridge_accuracy(outputs(model, x[:n])[0], y[:n], features, valid[1])
    return of_scores(scores, valid[1]) | {"probe": probe}


@torch.no_grad()
def outputs(model, x):
    """What enters the last linear layer, and what leaves the model."""
    model.eval()
    found = []
    with LastLinearInputs(model) as features:
        for part in x.split(500):
            scores = model(part)
            found.append((features.take(), scores))
    return tuple(map(torch.cat, zip(*found, strict=True)))


def of_scores(scores, true):
    """Accuracy and loss."""
    accuracy = (scores.argmax(1) == true).double().mean()
    return {"accuracy": float(accuracy), "valid_loss": float(F.cross_entropy(scores, true))}


# probes -----------------------------------------------------------------------------------------------------------


def ridge_accuracy(seen, labels, others, true):
    """Held-out accuracy of a ridge regression on standardised features, with the least leave-one-out error."""
    deviation, mean = torch.std_mean(seen.double(), 0)
    scale = torch.where(deviation > 1e-8, deviation, math.inf)
    seen, others = ((part - mean) / scale for part in (seen, others))
    if not (seen.isfinite().all() and others.isfinite().all()):
        return math.nan
    fitted = RidgeClassifierCV([len(seen) * penalty for penalty in PENALTIES]).fit(seen.numpy(), labels.numpy())
    return float(fitted.score(others.numpy(), true.numpy()))


def of_features(model, train, held_out):
    """Probes of what enters the last linear layer, and what it looks like on the images of P."""
    y, n, m = train[1], COUPLING_SAMPLES, PROBED
    seen, _ = outputs(model, train[0])
    return {
        "256": ridge_accuracy(seen[:n], y[:n], *held_out),
        "1024": ridge_accuracy(seen[:m], y[:m], *held_out),
        "all": ridge_accuracy(seen, y, *held_out),
        "nearest": nearest(seen[:m], y[:m], *held_out),
        "rank": effective_rank(seen[:n]),
        "collapse": collapse(seen[:n], y[:n]),
    }


def nearest(seen, labels, others, true, k=10):
    """Held-out accuracy of a vote of the nearest neighbours by cosine."""
    similar = F.normalize(others) @ F.normalize(seen).T
    votes = F.one_hot(labels)[similar.topk(k).indices].sum(1)
    return float((votes.argmax(1) == true).double().mean())


def effective_rank(x):
    """(Sum of the eigenvalues of the covariance)^2 / sum of their squares."""
    x = (x - x.mean(0)).double()
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    return float(gram.trace() ** 2 / gram.square().sum())


def collapse(x, y):
    """The log of the mean squared distance from the mean of the class, over that of these means from the whole mean."""
    classes, of_class = y.unique(return_inverse=True)
    means = torch.stack([x[y == c].mean(0) for c in classes])
    within = (x - means[of_class]).square().sum(1).mean()
    return float((within / (means - x.mean(0)).square().sum(1).mean()).log())


@torch.no_grad()
def of_layers(model, train, valid):
    """Ridge regressions on what enters the weights: all together, that in the middle, and the best."""
    y, n = train[1], COUPLING_SAMPLES
    seen, held = entering(model, train[0]), entering(model, valid[0])
    each = [ridge_accuracy(a[:n], y[:n], b, valid[1]) for a, b in zip(seen, held, strict=True)]
    together = ridge_accuracy(torch.cat(seen, 1), y, torch.cat(held, 1), valid[1])
    return {"probe": together, "middle": each[len(each) // 2], "best": max(each)}


def entering(model, x):
    """What enters each weighted layer, (N, F): means over tokens, and over 2x2 places of maps."""
    model.eval()
    kept = []

    def keep(_module, inputs):
        z = inputs[0]
        if z.ndim == 4:
            z = F.adaptive_avg_pool2d(z, 2).flatten(1)
        kept.append(z.flatten(1, -2).mean(1) if z.ndim == 3 else z)

    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.RNNBase))]
    with hooked([layer.register_forward_pre_hook(keep) for layer in layers]):
        model(x)
    return kept


@contextmanager
def hooked(handles):
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# weights, neurons and predictions ---------------------------------------------------------------------------------


def of_weights(model, x, y):
    """Gradients and spectra of the weights, and the zeros that leave ReLUs, on the images of P."""
    model.eval()
    outputs = []
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    with hooked([m.register_forward_hook(lambda _m, _i, z: outputs.append(z.detach() == 0)) for m in relus]):
        loss = F.cross_entropy(model(x), y)
    weights = [p for p in model.parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(loss, weights)
    steep = torch.stack([g.norm() / w.detach().norm() for g, w in zip(gradients, weights, strict=True)]).log()
    spectra = [torch.linalg.svdvals(w.detach().flatten(1)) for w in weights]
    return {
        "steepness": float(steep.mean()),
        "steepness_deviation": float(steep.std()) if len(steep) > 1 else 0.0,
        "steepness_last": float(steep[-1] - steep[0]),
        "dead": float(torch.stack([z.float().mean() for z in outputs]).mean()) if outputs else math.nan,
        "dead_units": float(torch.stack([z.all(0).float().mean() for z in outputs]).mean()) if outputs else math.nan,
        "stable_rank": sum(float((s.square().sum() / s[0] ** 2).log()) for s in spectra) / len(spectra),
        "spectral": sum(float(s[0].log()) for s in spectra) / len(spectra),
    }


def of_predictions(scores, true):
    scores = scores.double()
    own = scores.gather(1, true[:, None])[:, 0]
    best = scores.scatter(1, true[:, None], -math.inf).amax(1)
    entropy = torch.distributions.Categorical(logits=scores).entropy()
    return {"margin": float((own - best).mean() / scores.std()), "entropy": float(entropy.mean())}


# coupling ---------------------------------------------------------------------------------------------------------

SUMS = {
    "gradient": "gradient_square",
    "coupled": "coupled_square",
    "flow": "flow",
    "strength": "magnitude_in_strength",
}
"""Columns of :attr:`CapacitanceTracker.layers <linegraph.CapacitanceTracker.layers>` that are never negative."""


def of_coupling(model, data):
    """How sums over synapses spread over the layers, and the size of P."""
    model.eval()
    tracker = lg.CapacitanceTracker(model, F.cross_entropy, data)
    tracker.record()
    signed = lg.NeuralCoupling(model, F.cross_entropy, data, kind="signed")
    norm, generator = lg.spectral_norm(signed, tol=0.1), torch.Generator().manual_seed(0)
    signs = [2.0 * torch.randint(2, (signed.num_nodes,), generator=generator) - 1 for _ in range(4)]
    square = sum(float((signed @ sign).square().sum()) for sign in signs) / len(signs)  # estimates ‖P‖_F²
    found = {"norm": math.log(norm), "rank": math.log(square / norm**2)}
    for name, column in SUMS.items():
        found |= {f"{name}_{what}": value for what, value in over_depth(tracker.layers, column).items()}
    return found


def over_depth(layers, column):
    """Share of the last layer whose sum is positive; slope of the log of means per synapse, and their deviation."""
    layers = layers[layers[column] > 0]
    if len(layers) < 2:
        return {"last": math.nan, "slope": math.nan, "deviation": math.nan}
    means = np.log(layers[column] / layers["num_synapses"])
    slope = np.polyfit(np.linspace(0, 1, len(means)), means, 1)[0]
    return {"last": layers[column].iloc[-1] / layers[column].sum(), "slope": slope, "deviation": means.std()}


# many runs --------------------------------------------------------------------------------------------------------


CHOSEN = (
    ("scratch", "mnist-few"),
    *(("frozen", task) for task in ("digits", "cifar-others", "mnist-others")),
    *(("transfer", task) for task in ("cifar-rotation", "cifar10")),
    ("scratch", "mnist-photographs"),
    *(("frozen", task) for task in ("mnist-photographs", "cifar-rotation", "cifar10")),
    ("scratch", "cifar10"),
    *(("transfer", task) for task in ("cifar-others", "digits")),
    *(("scratch", task) for task in ("cifar-vehicles", "cifar-animals")),
    *(("transfer", task) for task in ("mnist-others", "mnist-photographs")),
)
"""Zoos and tasks in the order in which they are recorded, so that any part of them is a fair sample."""


def path_of(run):
    return recording.RUNS / "figures" / run.zoo / run.task / f"{run.name}.{run.seed}.parquet"


def chosen_runs(seed=0):
    """The runs of one seed and of half of the networks: two in four, so that both sources of bodies are among them.

    Those of a task come in a random order, in which any part of them is a fair sample.
    """
    for name, task in CHOSEN:
        networks = {network for k, (_, network) in enumerate(recording.networks(name)) if k % 4 in (0, 3)}
        runs = [run for run in recording.all_runs([name]) if (run.task, run.seed) == (task, seed)]
        runs = [run for run in runs if run.name in networks and not recording.is_missing(run)]
        yield from random.Random(0).sample(runs, len(runs))


def record(data, minutes=math.inf):
    """Take the figures of the chosen runs that are not recorded yet; after a time no more are begun."""
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * minutes
    for run in chosen_runs():
        if time.monotonic() < end and not path_of(run).exists():
            found = figures(*recording.started(run, data))
            recording.write_identified(run, path_of(run), found.assign(zoo=run.zoo))


def collect():
    """The recorded figures as one table, in single precision."""
    table = pd.concat([pd.read_parquet(path) for path in sorted((recording.RUNS / "figures").glob("*/*/*.parquet"))])
    small = {column: "float32" for column in table.select_dtypes("float64")}
    table = table.astype(small | {name: "category" for name in ("zoo", "task", "family", "name")})
    write_whole(TABLE, lambda path: table.to_parquet(path, index=False, compression="zstd"))
    print(f"{TABLE}: {len(table)} rows")


def read_table():
    """The figures that were taken, one row per run and epoch."""
    if not TABLE.exists():
        raise SystemExit(f"{TABLE} is missing; python -m benchmarks.selection new_figures makes it")
    return pd.read_parquet(TABLE).astype({name: str for name in ("zoo", "task", "family", "name")})
