"""Equilibria against integrating to them: linegraph.dynamics.equilibrium, and SciPy's LSODA on the same equations.

python -m benchmarks.equilibrium [--network TECB.npz] [--runs 5] [--models | --large] [--device cuda] [--json FILE]

LSODA (rtol 1e-8, atol 1e-10) follows the flow with the regulatory right-hand side in its vectorised sparse form,
−x + A (x²/(1 + x²)): to t = 400, as the published runs do, and to the first of a few times at which the residual is
below 1e-8, which no one knows beforehand. Beyond a few thousand nodes it cannot hold its dense Jacobian, and runs with
a diagonal one (lband = uband = 0). Without --network, a synthetic stand-in of the size of the E. coli network.
From 50, above every state, F has one sign and one sequence of states suffices; from 2 the start has to be enclosed.
On another device ours runs there, LSODA on the host.

For every model the costs of the right-hand side and of its Jacobian on 10⁶ edges follow, as multiples of one product
with P; a pair term that is no product is evaluated edge by edge. With --large, networks of 10⁷ edges come to rest.
Set OMP_NUM_THREADS=1 for what one thread does.
"""

import argparse
import statistics
import time

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scipy.integrate import solve_ivp

import linegraph as lg
from benchmarks.page import save
from linegraph import dynamics
from linegraph.dynamics.system import System

MODEL = dynamics.Regulatory()


class Oscillators(dynamics.Dynamics):
    """A user's pair term, whose slopes come from automatic differentiation (Kuramoto)."""

    def self_term(self, x):
        return torch.zeros_like(x)

    def pair_term(self, x, y):
        return torch.sin(y - x)


class Prey(dynamics.Dynamics):
    """A user's rational pair term, whose slopes come from automatic differentiation."""

    def self_term(self, x):
        return x * (1 - x)

    def pair_term(self, x, y):
        return -x * y / (1 + x + 0.5 * y)


MODELS = [dynamics.Mutualistic(), Oscillators(), Prey()]
MODELS += [dynamics.Regulatory(), dynamics.SIS(), dynamics.Neuronal(), dynamics.EdgeDynamics(0.3)]


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
        copy.by_target  # noqa: B018  the edges are sorted once
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


def processor_time(work, device):
    """Seconds of the processor, which the other work of a busy machine does not lengthen; on a GPU, of the clock."""
    clock, wait = (time.process_time, int) if device == "cpu" else (time.perf_counter, torch.cuda.synchronize)
    wait()
    start = clock()
    work()
    wait()
    return clock() - start


def large_network(device, n, edges, dtype=torch.float64):
    """Random edges, sorted, and the time that the sorting took."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(n, (2, edges), generator=generator)
    P = lg.GraphCoupling(index, torch.ones(edges, dtype=dtype), num_nodes=n).to(device)
    began = time.perf_counter()
    P.by_target  # noqa: B018
    return P, time.perf_counter() - began


def in_products(model, P, columns, runs):
    """The costs of the right-hand side and of its Jacobian, in products with P; the least of the times of each."""
    n, device = P.num_nodes, P.device
    x, v = torch.rand(2, n, dtype=P.dtype, device=device)
    block = torch.rand(n, columns, dtype=P.dtype, device=device)
    system = System(P, model)
    J = system.jacobian(x)

    works = {
        "product": lambda: P @ v,
        "evaluation": lambda: system(x),
        f"evaluation of {columns} states, for each": lambda: system(block),
        "Jacobian: diagonal and slopes": lambda: system.jacobian(x),
        "Jacobian product": lambda: J.matvec(v),
        "transposed": lambda: J.rmatvec(v),
    }
    least = dict.fromkeys(works, np.inf)
    for _ in range(runs):
        for name, work in works.items():
            least[name] = min(least[name], processor_time(work, device.type))
    product = least.pop("product")
    row = {name: took / product for name, took in least.items()}
    row[f"evaluation of {columns} states, for each"] /= columns
    case = f"{type(model).__name__}, {n:,} nodes, {str(P.dtype).removeprefix('torch.')}"
    return {"case": case, "product [ms]": 1e3 * product} | row


def large(P, sorting, model, start):
    """Time to rest, and the memory that it adds at its peak, as multiples of a state vector."""
    n, edges, device = P.num_nodes, P.num_edges, P.device.type
    if device == "cpu":
        with open("/proc/self/clear_refs", "w") as reset:
            reset.write("5")  # the peak starts anew
    else:
        torch.cuda.reset_peak_memory_stats()
    before = memory("VmRSS", device)
    began = time.perf_counter()
    found = dynamics.equilibrium(P, model, start)
    took = time.perf_counter() - began
    added = memory("VmHWM", device) - before
    return {
        "case": f"{type(model).__name__} from {start}",
        "nodes": n,
        "edges": edges,
        "sorting the edges, once [s]": sorting,
        "equilibrium [s]": took,
        "evaluations": found.evaluations,
        "converged": found.converged,
        "residual": found.residual,
        "edge list and its sorted form [MB]": (edges * 40 + n * 4) / 1e6,
        "peak added by the equilibrium [MB]": added / 1e6,
        "in state vectors": added / (8 * n),
    }


def all_large(device):
    P, sorting = large_network(device, 1_000_000, 10_000_000)
    cases = [(dynamics.Mutualistic(), start) for start in ("low", "high", 2.0)]
    cases += [(MODEL, 50.0), (MODEL, 2.0), (dynamics.SIS(), "low"), (dynamics.Neuronal(), "low")]
    return [large(P, sorting, *case) for case in cases]


def of_models(runs, device):
    """Of the denser graph the slopes on the edges are more than GMRES keeps, so each Jacobian product finds them."""
    graphs = [large_network(device, 100_000, 1_000_000, dtype)[0] for dtype in (torch.float64, torch.float32)]
    rows = [in_products(model, P, 4, 4 * runs) for P in graphs for model in MODELS]
    denser, _ = large_network(device, 10_000, 1_000_000)
    rows += [in_products(model, denser, 4, 4 * runs) for model in MODELS[:3]]
    return {f"in products with P, 1,000,000 edges, the least of {4 * runs} runs": rows}


def against_others(arguments):
    runs, device = arguments.runs, arguments.device
    small = sp.csr_array(sp.load_npz(arguments.network)) if arguments.network else random_network(1550, 3244)
    name = "given" if arguments.network else "synthetic"
    large_ones = [random_network(100_000, edges) for edges in (210_000, 500_000, 1_000_000)]
    cases = [(name, small, 2.0), (name, small, 5.0)]
    cases += [("synthetic", A, start) for A in large_ones for start in (2.0, 50.0)]
    losses = {"links": 0.2}, {"nodes": 0.1}, {"weights": 0.1, "jitter": 0.5}
    return {
        "against LSODA": [against_lsoda(*case, runs, device) for case in cases],
        "many copies": [many_copies(small, lost, 5.0, 100, runs, device) for lost in losses],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", help="a SciPy sparse .npz file, such as the E. coli network")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--models", action="store_true", help="only the costs of every model, in products")
    parser.add_argument("--large", action="store_true", help="only the network of 10⁶ nodes and 10⁷ edges")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.large:
        results = {"large": all_large(arguments.device)}
    elif arguments.models:
        results = of_models(arguments.runs, arguments.device)
    else:
        results = of_models(arguments.runs, arguments.device) | against_others(arguments)
    for title, rows in results.items():
        print(f"\n{title}")
        print(pd.DataFrame(rows).set_index("case").T.to_string(float_format=lambda x: f"{x:.4g}"))
    print(f"\n{torch.get_num_threads()} threads, torch {torch.__version__}, medians of {arguments.runs} runs")
    if arguments.json:
        save(arguments.json, "equilibrium", results, arguments.device)


if __name__ == "__main__":
    main()
