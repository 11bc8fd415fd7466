"""Figures of small, usual and large input, for the tests of what users see.

``python -m tests.plot.figures`` writes the thumbnails in ``tests/plot/thumbnails`` anew; look at them before a commit.
"""

import itertools
from functools import cache
from pathlib import Path

import matplotlib as mpl
import networkx as nx
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.testing.decorators import remove_ticks_and_titles
from PIL import Image

import linegraph as lg

THUMBNAILS = Path(__file__).with_name("thumbnails")
LONG = [f"timm/efficientnet-lite{i % 5}-variant-{i:02d}-imagenet1k" for i in range(60)]
PARTS = ["attention.query", "attention.key", "mlp.up", "mlp.down"]
LAYERS = [
    "embeddings.patch.weight",
    *(f"encoder.layers.{i // 4}.{PARTS[i % 4]}.weight" for i in range(58)),
    "head.weight",
]


def table(count, names):
    rng = np.random.default_rng(0)
    final = np.linspace(0.9, 0.5, count)
    return pd.DataFrame(
        {
            "name": names[:count],
            "combined": final + 0.02 * rng.normal(size=count),
            "combined_std": 0.02,
            "last_seen": final - 0.1 + 0.04 * rng.normal(size=count),
            "final": final,
        }
    )


def history(count, epochs, names):
    rng = np.random.default_rng(0)
    epoch = np.arange(1, epochs + 1)
    runs = [
        pd.DataFrame(
            {
                "name": name,
                "epoch": epoch,
                "beta_eff": 10.0 ** rng.normal() * (np.exp(-epoch / 3) + 0.01 * rng.normal(size=epochs)),
                "accuracy": final - (final - 0.1) * np.exp(-epoch / 2) + 0.005 * rng.normal(size=epochs),
            }
        )
        for name, final in zip(names, np.linspace(0.9, 0.5, count), strict=False)
    ]
    return pd.concat(runs, ignore_index=True)


def zoo(count):
    rng = np.random.default_rng(0)
    x = rng.random(count)
    family = np.array(["cnn", "mlp", "resnet", *"abcdefghi"])[np.arange(count) % 12]
    return pd.DataFrame({"clustering": x, "beta_eff": 10 ** (2 * x + 0.3 * rng.normal(size=count)), "family": family})


def bars(names):
    return pd.DataFrame({"layer": names, "share": np.random.default_rng(0).dirichlet(np.ones(len(names)))})


def pairs(names, low=-1.0):
    rng = np.random.default_rng(0)
    return pd.DataFrame(np.triu(rng.uniform(low, 1, (len(names),) * 2), 1), names, names)


def perceptron(*sizes):
    torch.manual_seed(0)
    layers = [part for a, b in itertools.pairwise(sizes) for part in (torch.nn.Linear(a, b), torch.nn.Tanh())]
    return torch.nn.Sequential(*layers[:-1]).double()


@cache
def coupling(*sizes, kind="signed"):
    torch.manual_seed(1)
    data = torch.randn(8, sizes[0]).double(), torch.randn(8, sizes[-1]).double()
    return lg.NeuralCoupling(perceptron(*sizes), torch.nn.functional.mse_loss, data, kind=kind)


@cache
def neurons(*sizes):
    torch.manual_seed(1)
    return lg.neuron_graph(perceptron(*sizes), torch.randn(8, sizes[0]).double())


@cache
def karate():
    return lg.from_networkx(nx.karate_club_graph())


@cache
def strengths(count):
    weight = torch.from_numpy(1 + np.random.default_rng(0).pareto(1.5, count))
    return lg.strength_distribution(lg.GraphCoupling(torch.arange(count).expand(2, count), weight), direction="in")


@cache
def curve():
    web = nx.random_regular_graph(6, 24, seed=0)
    return lg.dynamics.resilience_curve(web, lg.dynamics.Regulatory(), "links", [0, 0.3, 0.6, 0.9], 2)


def density(values):
    """The density of an explicit symmetric graph, whose weights of self-loops are its eigenvalues."""
    nodes = torch.arange(len(values)).expand(2, len(values))
    return lg.spectral_density(lg.GraphCoupling(nodes, torch.tensor(values)), probes=2, steps=8)


SMALL, DEEP, WIDE = (4, 3, 2), (4,) * 41, (80, 60, 30, 10)
CASES = {
    "ranking, 2": lambda ax=None: lg.plot.ranking(table(2, ["a", "b"]), ax),
    "ranking, 10": lambda ax=None: lg.plot.ranking(table(10, LONG), ax),
    "ranking, 60": lambda ax=None: lg.plot.ranking(table(60, LONG), ax),
    "predicted_against_true, 2": lambda ax=None: lg.plot.predicted_against_true(table(2, ["a", "b"]), ax),
    "predicted_against_true, 60": lambda ax=None: lg.plot.predicted_against_true(table(60, LONG), ax),
    "accuracy_against_capacitance, 2": lambda ax=None: lg.plot.accuracy_against_capacitance(
        history(2, 4, ["a", "b"]), ax
    ),
    "accuracy_against_capacitance, 60": lambda ax=None: lg.plot.accuracy_against_capacitance(history(60, 5, LONG), ax),
    "capacitance_over_training, 1": lambda ax=None: lg.plot.capacitance_over_training(history(1, 12, ["a"]), ax),
    "capacitance_over_training, 60": lambda ax=None: lg.plot.capacitance_over_training(history(60, 5, LONG), ax),
    "capacitance_against, 3": lambda ax=None: lg.plot.capacitance_against(zoo(3), "clustering", ax=ax),
    "capacitance_against, 300": lambda ax=None: lg.plot.capacitance_against(
        zoo(300), "clustering", ax=ax, group="family"
    ),
    "layer_bars, 3": lambda ax=None: lg.plot.layer_bars(bars(LAYERS[1:4]), ax),
    "layer_bars, 60": lambda ax=None: lg.plot.layer_bars(bars(LAYERS), ax),
    "layer_pairs, 3": lambda ax=None: lg.plot.layer_pairs(pairs(LAYERS[1:4]), ax),
    "layer_pairs, 60": lambda ax=None: lg.plot.layer_pairs(pairs(LAYERS, low=0.0), ax),
    "layer_values, 1": lambda ax=None: lg.plot.layer_values(karate(), karate().in_strength(), ax, label="strength"),
    "layer_values, 40": lambda ax=None: lg.plot.layer_values(
        coupling(*DEEP, kind="magnitude"), coupling(*DEEP, kind="magnitude").in_strength(), ax, label="strength"
    ),
    "strength_ccdf, 20": lambda ax=None: lg.plot.strength_ccdf(strengths(20), ax),
    "strength_ccdf, 100000": lambda ax=None: lg.plot.strength_ccdf(
        strengths(100_000), ax, fit=strengths(100_000).power_law(sample=500)
    ),
    "singular_values, 3": lambda ax=None: lg.plot.singular_values(torch.tensor([3.0, 2.0, 1.5]), ax),
    "singular_values, 300": lambda ax=None: lg.plot.singular_values(torch.logspace(2, -3, 300), ax),
    "spectral_density, 40": lambda ax=None: lg.plot.spectral_density(density([-1.0, 0.0, 0.0, 2.0] * 10), ax),
    "coupling_matrix, layers": lambda ax=None: lg.plot.coupling_matrix(lg.coarse_graph(coupling(*DEEP)), ax),
    "coupling_matrix, neurons": lambda ax=None: lg.plot.coupling_matrix(lg.coarse_graph(coupling(*WIDE), "neuron"), ax),
    "neuron_graph, 9": lambda ax=None: lg.plot.neuron_graph(neurons(*SMALL), ax),
    "neuron_graph, 164": lambda ax=None: lg.plot.neuron_graph(neurons(*DEEP), ax),
    "neuron_graph, 180": lambda ax=None: lg.plot.neuron_graph(neurons(*WIDE), ax),
    "line_graph, 18": lambda ax=None: lg.plot.line_graph(lg.line_graph(coupling(*SMALL)), ax),
    "line_graph, 78": lambda ax=None: lg.plot.line_graph(lg.line_graph(karate()), ax),
    "coarse_graph, layers": lambda ax=None: lg.plot.coarse_graph(lg.coarse_graph(coupling(*DEEP)), ax),
    "coarse_graph, neurons": lambda ax=None: lg.plot.coarse_graph(lg.coarse_graph(coupling(*WIDE), "neuron"), ax),
    "coarse_graph, groups": lambda ax=None: lg.plot.coarse_graph(lg.coarse_graph(karate(), torch.arange(34) // 3), ax),
    "state_against_capacity": lambda ax=None: lg.plot.state_against_capacity(curve(), lg.dynamics.Regulatory(), ax),
    "state_against_loss": lambda ax=None: lg.plot.state_against_loss(curve(), ax),
    "topology": lambda ax=None: lg.plot.topology(lg.topology(nx.karate_club_graph(), null=()), ax),
}


def drawn(figure, dpi=72):
    """The figure as an array of grey from 0 to 255 (height, width)."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("L"), dtype=float)


def thumbnail(name):
    """A small picture in grey of what is drawn, without words, whose size depends on fonts."""
    with mpl.rc_context({"figure.dpi": 72}):
        figure, ax = pyplot.subplots(figsize=(4, 3))
        CASES[name](ax)
    remove_ticks_and_titles(figure)
    for axes in [ax, *ax.child_axes]:
        axes.set(xlabel="", ylabel="")
        for text in axes.texts:
            text.set_text("")  # the arrow of an annotation stays
        if axes.get_legend() is not None:
            axes.get_legend().remove()
    picture = Image.fromarray(drawn(figure).astype(np.uint8)).resize((96, 72), Image.Resampling.BOX)
    pyplot.close(figure)
    return picture


def path_of(name):
    return THUMBNAILS / f"{name.replace(', ', '-')}.png"


if __name__ == "__main__":
    mpl.use("agg")
    THUMBNAILS.mkdir(exist_ok=True)
    for name in CASES:
        thumbnail(name).save(path_of(name), optimize=True)
