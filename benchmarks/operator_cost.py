"""What P costs, in units of one training step (forward and backward of the same batch), on this machine.

python benchmarks/operator_cost.py [--runs 7] [--json operator_cost.json]
"""

import argparse
import json
import platform
import statistics
import time
from itertools import pairwise

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.skip(x))


def resnet18():
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [Block(before, after, 1 if before == after else 2) for before, after in pairwise(widths)]
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )


def median_seconds(work, runs):
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(make, batch, runs):
    torch.manual_seed(0)
    model = make().eval()
    data = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))

    def step():
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(data[0]), data[1]).backward()

    def beta(kind):
        return lambda: lg.capacitance(lg.NeuralCoupling(model, F.cross_entropy, data, kind=kind))

    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    v = torch.randn(P.num_nodes)
    P.rmatvec(v)
    unit = median_seconds(step, runs)
    return {
        "synapses": P.num_nodes,
        "line-graph edges": P.num_edges,
        "training step [s]": unit,
        "beta_eff signed": median_seconds(beta("signed"), runs) / unit,
        "beta_eff magnitude": median_seconds(beta("magnitude"), runs) / unit,
        "matvec": median_seconds(lambda: P.matvec(v), runs) / unit,
        "rmatvec": median_seconds(lambda: P.rmatvec(v), runs) / unit,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    rows = {"MLP 3072-1024-1024-10, batch 64": (mlp, 64), "ResNet-18, batch 16x3x32x32": (resnet18, 16)}
    table = pd.DataFrame({name: measure(make, batch, arguments.runs) for name, (make, batch) in rows.items()}).T
    print(table.T.map(lambda x: f"{int(x):,}" if x > 1000 else f"{x:.3g}").to_string())
    print(f"without a unit: in training steps; float32, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if arguments.json:
        environment = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.processor()}
        with open(arguments.json, "w") as file:
            json.dump({"environment": environment, "results": table.to_dict("index")}, file, indent=1)


if __name__ == "__main__":
    main()
