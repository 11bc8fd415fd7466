"""Records training histories of zoos of networks, and their scores before training.

zoo        networks                                                  tasks   training
scratch    101 networks of 13 families, see ``zoo.py``               5       18 epochs of 4,000 images, SGD
wired      73 perceptrons that differ in their wiring alone          3       the same
transfer   36 bodies of 9 families, pre-trained on two sources,      6       15 epochs of 1,500 images, Adam,
           the published ResNets for CIFAR-10, in tasks of                   body fine-tuned
           other images, and three EfficientNets for ImageNet
           where their weights are installed
frozen     the same                                                  6       the same, body frozen

Each run is repeated with two seeds, which set weights (of the head, in transfer) and batch order. The figures of P, and
those of held-out images beside them, are those of :class:`linegraph.CapacitanceTracker` on 256 training images, at the
start and after epochs 1 to 5, 7 and 10. The bodies of transfer have the head of :class:`linegraph.CapacitanceProbe`.

Weights and batches are drawn on the host, so that a seed draws the same on every device. Times are those of the device,
so runs that are compared at equal cost belong on one.
"""

import math
import multiprocessing
import os
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
from tqdm import tqdm

import linegraph as lg
from benchmarks.selection import cifar_resnets, efficientnet_lite, tasks, zoo
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
SIZE, ENLARGED = 8, 32
"""Pixels a side, and those to which the EfficientNets enlarge them."""


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
    """(family, name) of the networks of a zoo; those with published weights, which take longest, come last."""
    if name == "scratch":
        return list(zoo.from_scratch())
    if name == "wired":
        return list(zoo.wirings())
    found = [(family, f"{body}@{source}") for family, body in zoo.bodies() for source in SOURCES]
    found += [("resnet", f"{body}@published") for body in cifar_resnets.DEPTHS]
    return found + [("efficientnet-lite", f"{body}@imagenet") for body in efficientnet_lite.SCALES]


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


class Timed:
    """Held-out data in batches; ``seconds`` is how long the last pass over them took its reader."""

    def __init__(self, images, labels):
        self.batches, self.seconds = list(zip(images.split(500), labels.split(500), strict=True)), 0.0

    def __iter__(self):
        start = time.perf_counter()
        yield from self.batches
        self.seconds = time.perf_counter() - start


def train(run, data, device="cpu"):
    """The history of a run: one row per epoch, from 0, with the figures of P for the first epochs."""
    model, optimizer, (x, y), valid = started(run, data, device)
    seen, held_out = (x[:COUPLING_SAMPLES], y[:COUPLING_SAMPLES]), Timed(*valid)
    tracker = lg.CapacitanceTracker(model, F.cross_entropy, seen, kind=KINDS, valid=held_out, metric="accuracy")
    rows, loss = [], math.nan
    for epoch in range(ZOOS[run.zoo].epochs + 1):
        start = time.perf_counter()
        if epoch:
            loss = train_epoch(model, optimizer, x, y)
            if not math.isfinite(loss):
                raise FloatingPointError(f"training diverged in epoch {epoch}")
        row = {"epoch": epoch, "loss": loss, "train_seconds": time.perf_counter() - start}
        model.eval()
        if epoch in READ_EPOCHS:
            start = time.perf_counter()
            row = tracker.record(**row)
            row["record_seconds"] = time.perf_counter() - start - held_out.seconds  # which every method takes
        else:
            row |= scores_of(model, valid)
        rows.append(row)
    return pd.DataFrame(rows)


def started(run, data, device="cpu"):
    """The network and the optimizer of a run before training, and its training and held-out samples."""
    (x, y), valid = images(run, data, device)
    torch.manual_seed(1000 * run.seed + 1)
    model = network(run, data).to(device)
    if run.zoo == "frozen":
        # The features are the same in every epoch, and only weights of the head are synapses.
        x, valid = features_of(model, x), (features_of(model, valid[0]), valid[1])
        model = model.head
    if run.zoo in ("transfer", "frozen"):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return model, optimizer, (x, y), valid


def train_epoch(model, optimizer, x, y):
    """The mean loss of an epoch."""
    model.train()
    losses = []
    for indices in torch.randperm(len(x)).split(BATCH):
        if len(indices) > 1:
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x[indices]), y[indices])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach() * len(indices))
    return sum(torch.stack(losses).tolist()) / len(x)  # read at the end, so that a device need not wait in between


@torch.no_grad()
def scores_of(model, valid):
    """Accuracy and loss on held-out images."""
    scores = torch.cat([model(x) for x in valid[0].split(500)])
    accuracy = (scores.argmax(1) == valid[1]).double().mean()
    return {"accuracy": float(accuracy), "valid_loss": float(F.cross_entropy(scores, valid[1]))}


@torch.no_grad()
def features_of(probe, x):
    return torch.cat([probe.features(part) for part in x.split(500)])


def network(run, data):
    """The network of a run as initialised: a body with a linear classifier, or a pre-trained body with a probe."""
    classes = tasks.TASKS[run.task].num_classes
    if run.zoo in ("scratch", "wired"):
        makers = zoo.from_scratch() if run.zoo == "scratch" else zoo.wirings()
        return zoo.classifier(makers[run.family, run.name], SIZE, classes)
    body, classifier = pretrained(run.family, *run.name.split("@"), data)
    frozen = run.zoo == "frozen"
    return lg.CapacitanceProbe(body, classifier.in_features, classes, hidden=HEAD, frozen=frozen)


def images(run, data, device="cpu"):
    return task_of(run.task, data, ZOOS[run.zoo].train, ZOOS[run.zoo].valid, device)


@cache
def task_of(name, data, train=None, valid=None, device="cpu"):
    parts = tasks.load(name, SIZE, data, train, valid)
    return tuple((x.to(device), y.to(device)) for x, y in parts)


# pre-training -----------------------------------------------------------------------------------------------------


def pretrained(family, name, source, data):
    """A body and the classifier of its source, trained on it by this benchmark unless their weights are published."""
    if source == "published":
        return cifar_resnets.published(name, data)
    if source == "imagenet":
        return efficientnet_lite.published(name, ENLARGED)
    model = zoo.classifier(zoo.bodies()[family, name], SIZE, tasks.TASKS[source].num_classes)
    model.load_state_dict(load_file(weights_path(name, source)))
    return model


def weights_path(name, source):
    return RUNS / "bodies" / f"{name}@{source}.safetensors"


def is_missing(run):
    """Whether the weights of a run's network are those of a package that is not installed."""
    body, _, source = run.name.partition("@")
    return source == "imagenet" and efficientnet_lite.weights_path(body) is None


def pretrain(family, name, source, data, device="cpu", epochs=6):
    (x, y), valid = task_of(source, data, device=device)
    torch.manual_seed(sum(f"{name} {source}".encode()))
    model = zoo.classifier(zoo.bodies()[family, name], SIZE, tasks.TASKS[source].num_classes).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, epochs)
    for _ in range(epochs):
        train_epoch(model, optimizer, x, y)
        schedule.step()
    accuracy = scores_of(model.eval(), valid)["accuracy"]
    metadata = {"source": source, "accuracy": f"{accuracy:.4f}", "epochs": str(epochs)}
    write_whole(
        weights_path(name, source),
        lambda path: save_file({n: t.cpu().contiguous() for n, t in model.state_dict().items()}, path, metadata),
    )


# scores of networks as constructed ----------------------------------------------------------------------------------


def initial_scores(run, data, device="cpu"):
    """The registered scores of a run's network before training, and of the features of its pre-trained body."""
    (x, y), _ = images(run, data, device)
    seen = x[:COUPLING_SAMPLES], y[:COUPLING_SAMPLES]
    torch.manual_seed(1000 * run.seed + 1)
    model = network(run, data).to(device).eval()
    given = {"model, loss_fn, data": (model, F.cross_entropy, seen)}
    with torch.no_grad():
        given["features, labels"] = (model.features if run.zoo == "transfer" else model[0])(seen[0]), seen[1]
        if run.zoo == "transfer":
            source = pretrained(run.family, *run.name.split("@"), data).to(device).eval()
            given["probabilities, labels"] = source(seen[0]).double().softmax(1), seen[1]
    found = {}
    for method in METHODS.values():
        if method.arguments in given:
            score = evaluated(method, lambda method=method: given[method.arguments])
            found |= {method.name: score.value, f"{method.name}_seconds": score.seconds}
    return pd.DataFrame([found])


# many runs --------------------------------------------------------------------------------------------------------


def begin(devices):
    """Make a process ready for jobs: one thread, and a device of its own among several of CUDA."""
    torch.set_num_threads(1)
    if (number := devices.get()) is not None:
        torch.cuda.set_device(number)


def work(job, data, device):
    """Do a job and write its file; an error becomes the file's only row. Returns what was done."""
    if isinstance(job, tuple):
        pretrain(*job, data, device)
        return "@".join(job[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.errors.DegenerateCapacitanceWarning)
        try:
            history = train(job, data, device)
        except Exception as error:
            history = pd.DataFrame({"epoch": [0], "error": [f"{type(error).__name__}: {error}"]})
    write_identified(job, job.path, history)
    return f"{job.zoo} {job.task} {job.name}"


def write_identified(run, path, table):
    identity = {name: getattr(run, name) for name in ("task", "family", "name", "seed")}
    write_whole(path, lambda file: table.assign(**identity).to_parquet(file, index=False))


def score(run, data, device):
    """Compute the scores of a run's network as constructed, and write its file."""
    write_identified(run, run.scores_path, initial_scores(run, data, device))
    return f"{run.zoo} {run.task} {run.name}"


def record(zoos, data, device="cpu", workers=None, minutes=math.inf):
    """Train what is not recorded, pre-training first, then score the networks of the runs that are recorded.

    ``device`` is "cpu" or "cuda"; ``workers`` is the number of processes, by default the number of processors or of
    CUDA devices, to which the processes are dealt out.
    """
    sources = []
    if {"transfer", "frozen"} & set(zoos):
        sources = [(*body, source) for source in SOURCES for body in zoo.bodies()]
        sources = [job for job in sources if not weights_path(*job[1:]).exists()]
    runs = list(all_runs(zoos))
    if missing := sorted({run.name.partition("@")[0] for run in runs if is_missing(run)}):
        print(f"left out, since no weights are installed: {', '.join(missing)}; {efficientnet_lite.ADVICE}")
        runs = [run for run in runs if not is_missing(run)]
    training = [run for run in runs if not run.path.exists()]
    scored = [run for run in runs if run.zoo in ("scratch", "transfer") and not run.scores_path.exists()]
    end = time.monotonic() + 60 * minutes
    workers = workers or default_workers(device)
    context = multiprocessing.get_context("spawn")
    devices = context.SimpleQueue()
    for worker in range(workers):
        devices.put(worker % torch.cuda.device_count() if device == "cuda" else None)
    with ProcessPoolExecutor(workers, context, begin, (devices,)) as pool:
        for what, jobs in ((work, sources), (work, training), (score, scored)):
            with tqdm(total=len(jobs), mininterval=10) as bar:
                for done in finished(pool, what, jobs, (str(data), device), end, 4 * workers):
                    bar.set_description(done)
                    bar.update()


def default_workers(device):
    """One process per processor, or per CUDA device."""
    return torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1


def finished(pool, what, jobs, options, end, ahead):
    """What each job returns, in the order in which they end; after a time no more are begun."""
    waiting, todo = set(), iter(jobs)
    while True:
        if time.monotonic() < end:
            waiting |= {pool.submit(what, job, *options) for job in islice(todo, ahead - len(waiting))}
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
