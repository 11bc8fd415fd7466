"""What P costs in units of one training step (forward and backward of the same batch), and what memory it takes.

python -m benchmarks.operator_cost [--runs 7] [--device cuda] [--parts large small memory] [--json operator_cost.json]

large    networks of 84,000 to 23 million synapses, in small batches
small    P and β_eff of the candidates for 8x8 digits and of small transformers, on 512 samples, as a tracker reads them
memory   a transformer for images of 224x224 pixels, whose attention matrices would fill it

Times are medians of ratios: every run times the training step and each product one after the other, in evaluation
mode. Memory is what a fresh process adds to the libraries it has loaded, at its peak; on CUDA, what torch allocates
there. The floor of β_eff, counted in convolutions and matrix products that form all in-strengths, is 4/3 of a step.
On small batches a GPU waits for Python, so images are larger there.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import time
import warnings

import pandas as pd
import torch
import torch.nn.functional as F

import linegraph as lg
from benchmarks.networks import mlp, resnet18, resnet50, vit_as_initialised, vit_small, vit_tiny
from benchmarks.page import save
from linegraph.selection.candidates import digits_candidates

CASES = {
    "ResNet-50, 16x3x64x64": (resnet50, (16, 3, 64, 64)),
    "ViT-small, 16x3x64x64": (vit_small, (16, 3, 64, 64)),
    "ViT-small as initialised, 16x3x64x64": (vit_as_initialised, (16, 3, 64, 64)),
    "ResNet-18, 16x3x32x32": (resnet18, (16, 3, 32, 32)),
    "MLP 784-100-50-10, 64": (mlp, (64, 784)),
}
LARGE = {
    "ResNet-50, 64x3x224x224": (resnet50, (64, 3, 224, 224)),
    "ViT-small, 64x3x224x224": (lambda: vit_small(224), (64, 3, 224, 224)),
    "ResNet-18, 512x3x32x32": (resnet18, (512, 3, 32, 32)),
}
SMALL = {name: (make, (512, 1, 8, 8)) for name, make in digits_candidates().items()} | {
    "ViT-tiny": (vit_tiny, (512, 1, 8, 8)),
    "MLP 784-100-50-10": (mlp, (512, 784)),
}
TITLES = {
    "large": "In training steps, small batches",
    "small": "In training steps, 512 samples",
    "memory": "Peak memory, in that of a training step",
}
PARTS = list(TITLES)
MEMORY = {"ViT-small, 8x3x224x224": (lambda: vit_small(224), (8, 3, 224, 224))}


def setting(name, device):
    torch.manual_seed(0)
    make, shape = (CASES | LARGE | SMALL | MEMORY)[name]
    return make().eval().to(device), torch.randn(shape, device=device), torch.randint(10, shape[:1], device=device)


def wait():
    """Until what was asked of a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def readings(model, data):
    """A training step, and P with its β_eff of two kinds, each a function of no arguments."""

    def step():
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(data[0]), data[1]).backward()

    def beta(kind):
        return lambda: lg.capacitance(lg.NeuralCoupling(model, F.cross_entropy, data, kind=kind)).beta_eff

    return {"training step": step, "β_eff signed": beta("signed"), "β_eff magnitude": beta("magnitude")}


def works(name, device):
    """What is timed, by name; each a function of no arguments."""
    model, *data = setting(name, device)
    found = readings(model, tuple(data))
    P = lg.NeuralCoupling(model, F.cross_entropy, tuple(data))
    v, block = torch.randn(P.num_nodes, device=device), torch.randn(4, P.num_nodes, device=device).mT
    found["matvec"] = lambda: P.matvec(v)
    found["rmatvec"] = lambda: P.rmatvec(v)
    found["matvec of 4 columns"] = lambda: P.matvec(block)
    return P, found


def ratios(works, runs, unit="training step"):
    """The median time of a unit, and the medians of all others in such units."""
    for work in works.values():
        work()
        wait()
    times = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            wait()
            times[name].append(time.perf_counter() - start)
    each = {n: statistics.median(t / u for t, u in zip(ts, times[unit], strict=True)) for n, ts in times.items()}
    return statistics.median(times[unit]), {name: ratio for name, ratio in each.items() if name != unit}


def head_alone(name, runs, device):
    """β_eff with the last layer and a new one before it as synapses on a frozen backbone, against its forward pass."""
    model, *data = setting(name, device)
    width = model[-1].in_features
    head = torch.nn.Sequential(torch.nn.Linear(width, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64))
    probe = torch.nn.Sequential(model[:-1].requires_grad_(False), head, torch.nn.ReLU(), torch.nn.Linear(64, 10)).eval()
    probe.to(device)

    def forward():
        with torch.no_grad():
            probe(data[0])

    work = lambda: lg.capacitance(lg.NeuralCoupling(probe, F.cross_entropy, tuple(data))).beta_eff  # noqa: E731
    return ratios({"forward": forward, "β_eff": work}, runs, unit="forward")[1]["β_eff"]


def peak(name, what, device):
    """MiB that one kind of work adds, in this process, which must be fresh."""
    tiny = torch.nn.Linear(1, 1)  # what is imported at first use is no memory of a network
    lg.NeuralCoupling(tiny, F.mse_loss, (torch.ones(1, 1), torch.ones(1, 1)))
    before = _high_water(device)
    model, *data = setting(name, device)
    if what == "training step":
        F.cross_entropy(model(data[0]), data[1]).backward()
    else:
        warnings.simplefilter("ignore", lg.errors.DegenerateCapacitanceWarning)
        float(lg.capacitance(lg.NeuralCoupling(model, F.cross_entropy, tuple(data))))
    return (_high_water(device) - before) / 1024


def _high_water(device):
    """Most KiB that this process has held; unlike ru_maxrss not that of the process it was started from."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1024
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def peak_ratio(name, device):
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        step, beta = (pool.apply(peak, (name, what, device)) for what in ("training step", "β_eff"))
    return beta / step


def measure(name, runs, device):
    P, timed = works(name, device)
    seconds, found = ratios(timed, runs)
    row = {"synapses": P.num_nodes, "line-graph edges": P.num_edges, "training step [s]": seconds} | found
    row["peak memory, β_eff signed"] = peak_ratio(name, device)
    if name.startswith("ResNet-50"):
        row["β_eff of a head on a frozen backbone, in forward passes"] = head_alone(name, runs, device)
    return row


def measure_small(name, runs, device):
    model, *data = setting(name, device)
    seconds, found = ratios(readings(model, tuple(data)), 5 * runs)
    return {"training step [s]": seconds} | found


def tables(parts, runs, device):
    """The tables of the parts asked for, by name."""
    large = CASES if device == "cpu" else CASES | LARGE
    return {
        part: pd.DataFrame(
            {
                "large": lambda: {name: measure(name, runs, device) for name in large},
                "small": lambda: {name: measure_small(name, runs, device) for name in SMALL},
                "memory": lambda: {name: {"peak memory, β_eff signed": peak_ratio(name, device)} for name in MEMORY},
            }[part]()
        ).T
        for part in parts
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--parts", nargs="+", choices=["large", "small", "memory"], default=["large", "small", "memory"]
    )
    parser.add_argument("--json")
    arguments = parser.parse_args()
    # Signed β_eff is 0/0 of a transformer with equal gains, whatever it costs.
    warnings.simplefilter("ignore", lg.errors.DegenerateCapacitanceWarning)
    found = tables(arguments.parts, arguments.runs, arguments.device)
    for table in found.values():
        shown = table.map(lambda x: "-" if pd.isna(x) else f"{int(x):,}" if x > 1000 else f"{x:.3g}")
        shown = shown if len(table) > len(table.columns) else shown.T
        print(shown.to_string(line_width=160), end="\n\n")
    environment = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_initialized() else platform.machine(),
        "cores": os.cpu_count(),
        "runs": arguments.runs,
    }
    print("without a unit: in training steps;", ", ".join(f"{key} {value}" for key, value in environment.items()))
    if arguments.json:
        rows = {part: table.rename_axis("network").reset_index().to_dict("records") for part, table in found.items()}
        save(
            arguments.json, "operator_cost", {TITLES[part]: of_part for part, of_part in rows.items()}, arguments.device
        )


if __name__ == "__main__":
    main()
