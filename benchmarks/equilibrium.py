"""Equilibria against integrating to them: linegraph.dynamics.equilibrium, and SciPy's LSODA on the same equations.

python -m benchmarks.equilibrium [--network TECB.npz] [--runs 5] [--large] [--device cuda] [--json equilibrium.json]

LSODA (rtol 1e-8, atol 1e-10) follows the flow with the regulatory right-hand side in its vectorised sparse form,
−x + A (x²/(1 + x²)): to t = 400, as the published runs do, and to the first of a few times at which the residual is
below 1e-8, which no one knows beforehand. Beyond a few thousand nodes it cannot hold its dense Jacobian, and runs with
a diagonal one (lband = uband = 0). Without --network, a synthetic stand-in of the size of the E. coli network.
From 50, above every state, F has one sign and one sequence of states suffices; from 2 the start has to be enclosed.
On another device ours runs there, LSODA on the host.
"""

import argparse
import json
import statistics
import time

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scipy.integrate import solve_ivp

import linegraph as lg
from linegraph import dynamics

MODEL = dynamics.Regulatory()


def random_network(n, edges, seed=0):
    """Random directed edges of weight 1; parallel ones add up."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, n, (2, edges))
    return sp.csr_array((np.ones(edges), (ends[0], ends[1])), shape=(n, n))


def once(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds(work, runs):
    work()
    return statistics.median(once(work) for _ in range(runs))


def alternating(first, *others, runs):
    """Medians of works taken in turn, the first five times a turn, so that a machine's moods are shared."""
    times = [[] for _ in range(1 + len(others))]
    first()
    for _ in range(runs):
        times[0] += [once(first) for _ in range(5)]
        for work, taken in zip(others, times[1:], strict=True):
            taken.append(once(work))
    return map(statistics.median, times)


def lsoda(A, start, end, times=None):
    def velocity(_, x):
        squared = x * x
        return -x + A @ (squared / (1 + squared))

    banded = {"lband": 0, "uband": 0} if A.shape[0] > 5000 else {}
    begin = np.full(A.shape[0], start)
    options = {"method": "LSODA", "rtol": 1e-8, "atol": 1e-10, "t_eval": times}
    return solve_ivp(velocity, (0, end), begin, **options, **banded), velocity


def rest_time(A, start):
    """The first of a few times at which LSODA's residual is below 1e-8, so that it does no needless work, if any."""
    found, velocity = lsoda(A, start, 400, (15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 400))
    for end, x in zip(found.t, found.y.T, strict=True):
        if np.abs(velocity(0, x)).max() <= 1e-8:
            return float(end), lsoda(A, start, float(end))[0]
    return np.nan, found  # as from a state at a fold, which the flow approaches like 1/t


def against_lsoda(name, A, start, runs, device):
    P = lg.from_scipy(A).to(device)
    found = dynamics.equilibrium(P, MODEL, start)
    end, reference = rest_time(A, start)
    ours, published, shortest = alternating(
        lambda: dynamics.equilibrium(P, MODEL, start),
        lambda: lsoda(A, start, 400),
        lambda: lsoda(A, start, end) if end == end else None,
        runs=1 if A.shape[0] > 5000 else runs,
    )
    shortest = shortest if end == end else np.nan
    began = time.perf_counter()
    stability = found.stability
    return {
        "case": f"{name}, {A.shape[0]:,} nodes, {A.nnz:,} edges, start {start:g}",
        "ours [ms]": 1e3 * ours,
        "LSODA to t = 400 [ms]": 1e3 * published,
        "ratio": published / ours,
        "LSODA to rest [ms]": 1e3 * shortest,
        "ratio to that": shortest / ours,
        "at rest at t": end,
        "evaluations": found.evaluations,
        "LSODA evaluations to rest": reference.nfev,
        "largest difference": float(np.abs(found.x.cpu().numpy() - reference.y[:, -1]).max()),
        "residual": found.residual,
        "stability, on demand": f"{stability} ({1e3 * (time.perf_counter() - began):.0f} ms)",
    }


def many_copies(A, losses, start, count, runs, device):
    P = lg.from_scipy(A).to(device)
    copies = [dynamics.perturb(P, **losses, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]
    for copy in copies:
        copy.in_strength()  # sorts the edges, once
    alone = seconds(lambda: [dynamics.equilibrium(copy, MODEL, start) for copy in copies], runs)
    together = seconds(lambda: dynamics.equilibrium(copies, MODEL, start), runs)
    found = dynamics.equilibrium(copies, MODEL, start)
    return {
        "case": f"{count} copies, {losses}, start {start:g}",
        "together [ms]": 1e3 * together,
        "one after another [ms]": 1e3 * alone,
        "ratio": alone / together,
        "most evaluations of one copy": max(each.evaluations for each in found),
    }


def memory(key, device):
    """Resident memory of this process in bytes: VmRSS now, VmHWM at its peak (Linux); or what torch took on a GPU."""
    if device != "cpu":
        return torch.cuda.memory_allocated() if key == "VmRSS" else torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))


def large(start, device, n=1_000_000, edges=10_000_000):
    """Memory that an equilibrium adds at its peak, as multiples of a state vector."""
    rng = np.random.default_rng(0)
    index = torch.from_numpy(rng.integers(0, n, (2, edges)))
    P = lg.GraphCoupling(index, torch.ones(edges, dtype=torch.float64), num_nodes=n).to(device)
    del index
    began = time.perf_counter()
    P.in_strength()
    sorting = time.perf_counter() - began
    if device == "cpu":
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")  # the peak starts anew
    else:
        torch.cuda.reset_peak_memory_stats()
    before = memory("VmRSS", device)
    began = time.perf_counter()
    found = dynamics.equilibrium(P, MODEL, start)
    took = time.perf_counter() - began
    added = memory("VmHWM", device) - before
    return {
        "case": f"{n:,} nodes, {edges:,} edges, start {start:g}",
        "sorting the edges, once [s]": sorting,
        "equilibrium [s]": took,
        "evaluations": found.evaluations,
        "residual": found.residual,
        "edge list and its sorted form [MB]": (edges * 36 + n * 4) / 1e6,
        "peak added by the equilibrium [MB]": added / 1e6,
        "in state vectors": added / (8 * n),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", help="a SciPy sparse .npz file, such as the E. coli network")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="only the network of 10⁶ nodes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.large:
        results = {"large": [large(start, arguments.device) for start in (50.0, 2.0)]}
    else:
        small = sp.csr_array(sp.load_npz(arguments.network)) if arguments.network else random_network(1550, 3244)
        name = "given" if arguments.network else "synthetic"
        large_ones = [random_network(100_000, edges) for edges in (210_000, 500_000, 1_000_000)]
        cases = [(name, small, 2.0), (name, small, 5.0)]
        cases += [("synthetic", A, start) for A in large_ones for start in (2.0, 50.0)]
        results = {
            "against LSODA": [against_lsoda(*case, arguments.runs, arguments.device) for case in cases],
            "many copies": [
                many_copies(small, losses, 5.0, 100, arguments.runs, arguments.device)
                for losses in ({"links": 0.2}, {"nodes": 0.1}, {"weights": 0.1, "jitter": 0.5})
            ],
        }
    for title, rows in results.items():
        print(f"\n{title}")
        print(pd.DataFrame(rows).set_index("case").T.to_string(float_format=lambda x: f"{x:.4g}"))
    print(f"\nfloat64, {torch.get_num_threads()} threads, torch {torch.__version__}, medians of {arguments.runs} runs")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
