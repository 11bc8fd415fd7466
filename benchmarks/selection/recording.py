"""Records training histories of zoos of networks, and their scores before training.

zoo        networks                                                  tasks   training
scratch    101 networks of 13 families, see ``zoo.py``               5       18 epochs of 4,000 images, SGD
wired      73 perceptrons that differ in their wiring alone          3       the same
transfer   36 bodies of 9 families, pre-trained on two sources,      6       15 epochs of 1,500 images, Adam,
           and the published ResNets for CIFAR-10, in                        body fine-tuned
           tasks of other images
frozen     the same                                                  6       the same, body frozen

Each run is repeated with two seeds, which set weights (of the head, in transfer) and batch order. The figures of P are
those of :class:`linegraph.CapacitanceTracker` on 256 training images, at the start and after epochs 1 to 5, 7 and 10.
"""

import math
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

import linegraph as lg
from benchmarks.selection import cifar_resnets, tasks, zoo
from linegraph.files import write_whole
from linegraph.selection.methods import METHODS, evaluated

RUNS, RECORDED = Path("runs/selection"), Path("datasets/selection")
SEEDS = (0, 1)
READ_EPOCHS = (0, 1, 2, 3, 4, 5, 7, 10)
COUPLING_SAMPLES, BATCH = 256, 64
KINDS = ("magnitude", "signed")
SOURCES = ("cifar-source", "mnist-source")
HEAD = (256, 128, 64)


@dataclass(frozen=True)
class Zoo:
    tasks: tuple[str, ...]
    epochs: int
    train: int
    valid: int


ZOOS = {
    "scratch": Zoo(("cifar10", "mnist-photographs", "mnist-few", "cifar-animals", "cifar-vehicles"), 18, 4000, 3000),
    "transfer": Zoo(
        ("digits", "cifar-others", "mnist-others", "mnist-photographs", "cifar-rotation", "cifar10"), 15, 1500, 1500
    ),
}
ZOOS["frozen"] = ZOOS["transfer"]
ZOOS["wired"] = Zoo(("cifar10", "mnist-photographs", "cifar-vehicles"), 18, 4000, 3000)
SIZE = 8
"""Pixels a side."""


@dataclass(frozen=True)
class Run:
    """One training run; ``name`` is the network's, in transfer followed by the source of its weights."""

    zoo: str
    task: str
    family: str
    name: str
    seed: int

    @property
    def path(self):
        return RUNS / self.zoo / self.task / f"{self.name}.{self.seed}.parquet"

    @property
    def scores_path(self):
        return RUNS / "scores" / self.zoo / self.task / f"{self.name}.{self.seed}.parquet"


def networks(name):
    """(family, name) of the networks of a zoo; the published ones, which take longest, come last."""
    if name == "scratch":
        return list(zoo.from_scratch())
    if name == "wired":
        return list(zoo.wirings())
    found = [(family, f"{body}@{source}") for family, body in zoo.bodies() for source in SOURCES]
    return found + [("resnet", f"{body}@published") for body in cifar_resnets.DEPTHS]


def all_runs(zoos):
    """The runs in an order in which any part of them is a fair sample: both seeds of a task, then the next task."""
    for turn in range(max(len(ZOOS[name].tasks) for name in zoos)):
        for name in zoos:
            for task in ZOOS[name].tasks[turn : turn + 1]:
                fair = [network for network in networks(name) if not has_seen(network[1], task)]
                yield from (Run(name, task, *network, seed) for seed in SEEDS for network in fair)


def has_seen(name, task):
    """Whether a network's weights were made with the images and labels of a task.

    The published ResNets were trained on all training images of CIFAR-10, from which our tasks of CIFAR-10 are drawn.
    """
    return name.endswith("@published") and tasks.TASKS[task].collection == "cifar10"


# one run ----------------------------------------------------------------------------------------------------------


def train(run, data):
    """The history of a run: one row per epoch, from 0, with the figures of P for the first epochs."""
    settings, (model, optimizer, (train_x, train_y), valid) = ZOOS[run.zoo], started(run, data)
    seen = train_x[:COUPLING_SAMPLES], train_y[:COUPLING_SAMPLES]
    tracker = lg.CapacitanceTracker(model, F.cross_entropy, seen, kind=KINDS)
    rows, loss = [], math.nan
    for epoch in range(settings.epochs + 1):
        start = time.perf_counter()
        if epoch:
            loss = train_epoch(model, optimizer, train_x, train_y)
            if not math.isfinite(loss):
                raise FloatingPointError(f"training diverged in epoch {epoch}")
        trained = time.perf_counter()
        row = {"epoch": epoch, "loss": loss, "train_seconds": trained - start} | held_out(model, valid)
        if epoch in READ_EPOCHS:
            row |= on_training_images(model, seen, valid)
            start = time.perf_counter()
            row |= tracker.record(**row)
            row["record_seconds"] = time.perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows)


def started(run, data):
    """The model and the optimizer of a run before training, and its training and held-out samples."""
    (train_x, train_y), valid = images(run, data)
    torch.manual_seed(1000 * run.seed + 1)
    body, head = parts(run, data)
    if run.zoo == "frozen":  # the features of a frozen body are the same in every epoch
        body.eval().requires_grad_(False)
        with torch.no_grad():
            train_x, valid = torch.cat([body(x) for x in train_x.split(500)]), (body(valid[0]), valid[1])
        body = nn.Identity()
    model = nn.Sequential(body, head)
    if run.zoo in ("transfer", "frozen"):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return model, optimizer, (train_x, train_y), valid


def train_epoch(model, optimizer, x, y):
    model.train()
    total = 0.0
    for indices in torch.randperm(len(x)).split(BATCH):
        if len(indices) > 1:
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x[indices]), y[indices])
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(indices)
    return total / len(x)


@torch.no_grad()
def held_out(model, valid):
    model.eval()
    scores = model(valid[0])
    accuracy = (scores.argmax(1) == valid[1]).double().mean()
    return {"accuracy": float(accuracy), "valid_loss": float(F.cross_entropy(scores, valid[1]))}


@torch.no_grad()
def on_training_images(model, seen, valid):
    """Loss and accuracy on the images of P, and the held-out accuracy of a linear classifier of their features."""
    scores = model(seen[0])
    accuracy = (scores.argmax(1) == seen[1]).double().mean()
    found = {"seen_loss": float(F.cross_entropy(scores, seen[1])), "seen_accuracy": float(accuracy)}
    features = [with_one(features_of(model, x)) for x in (seen[0], valid[0])]
    one_hot = F.one_hot(seen[1], scores.shape[1]).double()
    gram = features[0].T @ features[0]
    ridge = 1e-2 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    linear = torch.linalg.solve(gram + ridge, features[0].T @ one_hot)
    right = ((features[1] @ linear).argmax(1) == valid[1]).double().mean()
    return found | {"linear_probe": float(right)}


def features_of(model, x):
    head = model[1]
    x = model[0](x)
    return head[:-1](x) if isinstance(head, nn.Sequential) else x


def with_one(x):
    return torch.cat([x, torch.ones(len(x), 1)], 1).double()


def parts(run, data):
    """The body and the head of a run's model, as initialised."""
    classes = tasks.TASKS[run.task].num_classes
    if run.zoo in ("scratch", "wired"):
        makers = zoo.from_scratch() if run.zoo == "scratch" else zoo.wirings()
        return zoo.classifier(makers[run.family, run.name], SIZE, classes).children()
    body = pretrained(run.family, *run.name.split("@"), data)[0]
    with torch.no_grad():
        features = body.eval()(torch.zeros(2, 3, SIZE, SIZE)).shape[1]
    return body, lg.CapacitanceProbe(nn.Identity(), features, classes, hidden=HEAD).head


def images(run, data):
    return task_of(run.task, data, ZOOS[run.zoo].train, ZOOS[run.zoo].valid)


@cache
def task_of(name, data, train=None, valid=None):
    return tasks.load(name, SIZE, data, train, valid)


# pre-training -----------------------------------------------------------------------------------------------------


def pretrained(family, name, source, data):
    """A network with the classifier of its source, trained on it by this benchmark unless it is a published one."""
    if source == "published":
        return cifar_resnets.published(name, data)
    model = zoo.classifier(zoo.bodies()[family, name], SIZE, tasks.TASKS[source].num_classes)
    model.load_state_dict(load_file(weights_path(name, source)))
    return model


def weights_path(name, source):
    return RUNS / "bodies" / f"{name}@{source}.safetensors"


def pretrain(family, name, source, data, epochs=6):
    (x, y), valid = task_of(source, data)
    torch.manual_seed(sum(f"{name} {source}".encode()))
    model = zoo.classifier(zoo.bodies()[family, name], SIZE, tasks.TASKS[source].num_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, epochs)
    for _ in range(epochs):
        train_epoch(model, optimizer, x, y)
        schedule.step()
    accuracy = held_out(model, valid)["accuracy"]
    metadata = {"source": source, "accuracy": f"{accuracy:.4f}", "epochs": str(epochs)}
    write_whole(
        weights_path(name, source),
        lambda path: save_file({n: t.contiguous() for n, t in model.state_dict().items()}, path, metadata),
    )


# scores of networks as constructed ----------------------------------------------------------------------------------


def initial_scores(run, data):
    """The registered scores of a run's network before training, and of the features of its pre-trained body."""
    (x, y), _ = images(run, data)
    seen = x[:COUPLING_SAMPLES], y[:COUPLING_SAMPLES]
    torch.manual_seed(1000 * run.seed + 1)
    body, head = parts(run, data)
    given = {"model, loss_fn, data": (nn.Sequential(body, head), F.cross_entropy, seen)}
    with torch.no_grad():
        body.eval()
        given["features, labels"] = body(seen[0]), seen[1]
        if run.zoo == "transfer":
            probabilities = pretrained(run.family, *run.name.split("@"), data).eval()(seen[0]).double().softmax(1)
            given["probabilities, labels"] = probabilities, seen[1]
    found = {}
    for method in METHODS.values():
        if method.arguments in given:
            score = evaluated(method, lambda method=method: given[method.arguments])
            found |= {method.name: score.value, f"{method.name}_seconds": score.seconds}
    return pd.DataFrame([found])


# many runs --------------------------------------------------------------------------------------------------------


def work(job, data, threads):
    """Do a job and write its file; an error becomes the file's only row. Returns what was done."""
    torch.set_num_threads(threads)
    if isinstance(job, tuple):
        pretrain(*job, data)
        return "@".join(job[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.errors.DegenerateCapacitanceWarning)
        try:
            history = train(job, data)
        except Exception as error:
            history = pd.DataFrame({"epoch": [0], "error": [f"{type(error).__name__}: {error}"]})
    write_identified(job, job.path, history)
    return f"{job.zoo} {job.task} {job.name}"


def write_identified(run, path, table):
    identity = {name: getattr(run, name) for name in ("task", "family", "name", "seed")}
    write_whole(path, lambda file: table.assign(**identity).to_parquet(file, index=False))


def score(run, data, threads):
    """Compute the scores of a run's network as constructed, and write its file."""
    torch.set_num_threads(threads)
    write_identified(run, run.scores_path, initial_scores(run, data))
    return f"{run.zoo} {run.task} {run.name}"


def record(zoos, data, workers, minutes):
    """Train what is not recorded, pre-training first, then score the networks of the runs that are recorded."""
    sources = []
    if {"transfer", "frozen"} & set(zoos):
        sources = [(*body, source) for source in SOURCES for body in zoo.bodies()]
        sources = [job for job in sources if not weights_path(*job[1:]).exists()]
    runs = list(all_runs(zoos))
    training = [run for run in runs if not run.path.exists()]
    scored = [run for run in runs if run.zoo in ("scratch", "transfer") and not run.scores_path.exists()]
    end = time.monotonic() + 60 * minutes
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        for what, jobs in ((work, sources), (work, training), (score, scored)):
            with tqdm(total=len(jobs), mininterval=10) as bar:
                for done in finished(pool, what, jobs, data, end, 4 * workers):
                    bar.set_description(done)
                    bar.update()


def finished(pool, what, jobs, data, end, ahead):
    """What each job returns, in the order in which they end; after a time no more are begun."""
    waiting, todo = set(), iter(jobs)
    while True:
        if time.monotonic() < end:
            waiting |= {pool.submit(what, job, str(data), 1) for job in islice(todo, ahead - len(waiting))}
        if not waiting:
            return
        done = next(as_completed(waiting))
        waiting.remove(done)
        yield done.result()


def collect():
    """The recorded runs of each zoo, and the scores of its networks, as one table each, in single precision."""
    recorded = {name: [run.path for run in all_runs([name])] for name in ZOOS}
    scored = {f"scores/{name}": [run.scores_path for run in all_runs([name])] for name in ("scratch", "transfer")}
    for name, paths in (recorded | scored).items():
        files = sorted(path for path in paths if path.exists())
        if files:
            table = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
            small = {column: "float32" for column in table.select_dtypes("float64")}
            table = table.astype(small | {"task": "category", "family": "category", "name": "category"})
            path = RECORDED / f"{name.replace('/', '-')}.parquet"
            write_whole(path, lambda file, t=table: t.to_parquet(file, index=False, compression="zstd"))
            print(f"{name}: {len(files)} runs, {len(table)} rows")
