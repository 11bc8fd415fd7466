"""Does the wiring of a perceptron tell its final accuracy? Networks that differ in the graph of their blocks alone.

After J. You et al., Graph structure of neural networks (ICML 2020), who find the best networks at intermediate
clustering and path length. Here all graphs have 16 nodes and 40 edges, so all networks one number of weights.
"""

import networkx as nx
import numpy as np
import pandas as pd

from benchmarks.selection import zoo
from linegraph.selection import spearman

__all__ = ["judge"]

READ_AFTER = 1
"""Number of epochs after which the capacitance is read."""


def measures(graph):
    """Topological measures of a graph, by name."""
    connected = nx.is_connected(graph)
    degrees = np.array([degree for _, degree in graph.degree])
    adjacency, laplacian = nx.adjacency_spectrum(graph).real, nx.laplacian_spectrum(graph)
    betweenness = np.array(list(nx.betweenness_centrality(graph).values()))
    return {
        "clustering": nx.average_clustering(graph),
        "path length": nx.average_shortest_path_length(graph) if connected else np.nan,
        "deviation of degrees": degrees.std(),
        "largest degree": degrees.max(),
        "assortativity": nx.degree_assortativity_coefficient(graph) if degrees.std() else np.nan,
        "largest betweenness": betweenness.max(),
        "spectral radius": adjacency.max(),
        "algebraic connectivity": np.sort(laplacian)[1],
        "capacitance of the graph": float((degrees**2).sum() / degrees.sum()),
    }


def judge(evidence, resamples=1000, seed=0):
    """The Spearman correlations of measures with final accuracies, by task, with intervals."""
    graphs = {f"wired-{name}": graph for name, graph in zoo.graphs().items()}
    table = pd.DataFrame({name: measures(graph) for name, graph in graphs.items()}).T
    runs, rng, rows = evidence.runs, np.random.default_rng(seed), []
    after = pd.DataFrame([h[h["epoch"] == READ_AFTER].iloc[0] for h in evidence.first(READ_AFTER)])
    early = runs[["task", "name"]].assign(
        capacitance=after["beta_eff"].to_numpy(), accuracy=after["accuracy"].to_numpy()
    )
    for task, part in runs.groupby("task"):
        finals = part.groupby("name")["final"].mean()
        seen = early[early["task"] == task].groupby("name")[["capacitance", "accuracy"]].mean()
        of_task = table.join(
            seen.rename(columns={"capacitance": "capacitance of the network", "accuracy": "accuracy after one epoch"})
        ).loc[finals.index]
        draws = rng.integers(len(finals), size=(resamples, len(finals)))
        by_seed = part.pivot(index="name", columns="seed", values="final")
        for name, values in of_task.items():
            x, known = values.to_numpy(float), values.notna().to_numpy()
            sampled = [spearman(x[d[known[d]]], finals.to_numpy()[d[known[d]]]) for d in draws]
            rows.append(
                {
                    "task": task,
                    "measure": name,
                    "spearman": spearman(x[known], finals.to_numpy()[known]),
                    "low": float(np.nanquantile(sampled, 0.025)),
                    "high": float(np.nanquantile(sampled, 0.975)),
                    "between seeds": float(by_seed.corr("spearman").iloc[0, 1]),
                    "deviation of finals": float(finals.std()),
                }
            )
    return rows
