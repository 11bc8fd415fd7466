"""Networks, right-hand sides written out from the equations, on dense matrices, and their integration by LSODA."""

import json

import numpy as np
import scipy.sparse as sp
import torch
from scipy.integrate import solve_ivp

import linegraph as lg
from linegraph import dynamics


def mutualistic(A, x):
    pair = x[:, None] * x / (5 + 0.9 * x[:, None] + 0.1 * x)
    return 0.1 + x * (1 - x / 5) * (x / 1 - 1) + (A * pair).sum(1)


def regulatory(A, x):
    return -x + A @ (x**2 / (x**2 + 1))


def sis(A, x):
    return -x + (A * (1 - x[:, None]) * x).sum(1)


def neuronal(A, x):
    return -x + A @ (1 / (1 + np.exp(-(x - 3.5))))


MODELS = {
    "mutualistic": (dynamics.Mutualistic(), mutualistic),
    "regulatory": (dynamics.Regulatory(), regulatory),
    "sis": (dynamics.SIS(), sis),
    "neuronal": (dynamics.Neuronal(), neuronal),
}


def lsoda(right_hand_side, A, start, end=400.0):
    start = np.broadcast_to(start, len(A)).astype(float)
    found = solve_ivp(
        lambda _, x: right_hand_side(A, x), (0, end), start, method="LSODA", rtol=1e-11, atol=1e-12, t_eval=[end]
    )
    assert found.success
    return found.y[:, -1]


def random_network(n, degree, seed, scale=1.0):
    """Directed, with weights between 0 and 2·scale, as a coupling and as a matrix."""
    rng = np.random.default_rng(seed)
    A = (rng.random((n, n)) < degree / n) * rng.random((n, n)) * 2 * scale
    return lg.from_scipy(sp.csr_array(A)), A


def vector(x):
    return torch.as_tensor(x, dtype=torch.float64)


def load(shared, name):
    """A published network: its coupling, its dense matrix, and what is published of it."""
    matrix = sp.load_npz(shared / f"data/resilience/{name}.npz")
    entry = json.loads((shared / "data/resilience/published.json").read_text())[f"{name}.npz"]
    return lg.from_scipy(matrix), matrix.toarray(), entry


def ring(n, weight=1.0):
    nodes = torch.arange(n)
    return lg.GraphCoupling(torch.stack([nodes, nodes.roll(-1)]), torch.full((n,), weight, dtype=torch.float64))
