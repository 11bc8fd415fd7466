"""Networks in training: the dynamics of P compared with the gradient flow, and a trained network as an equilibrium."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from linegraph.arguments import as_real, check_module, check_tolerance, check_type
from linegraph.coupling.model.data import call_model
from linegraph.coupling.model.parameters import Include
from linegraph.coupling.model.plain_forward import in_the_open
from linegraph.coupling.model.weighing import BatchWeight
from linegraph.coupling.neural import NeuralCoupling
from linegraph.coupling.tracing.attention import Unfused
from linegraph.dynamics.models import EdgeDynamics
from linegraph.dynamics.solvers.field import integrate
from linegraph.dynamics.trajectories import trajectory
from linegraph.errors import ConvergenceError, DataError
from linegraph.linalg.eigen import arpack
from linegraph.linalg.limits import DENSE_HESSIAN
from linegraph.metrics.neural_capacitance import Capacitance, capacitance
from linegraph.turns import turn

__all__ = ["TrainedEquilibrium", "drift", "trained_equilibrium"]

Loss = Callable[[Any, Any], Tensor]

RESTARTS = 1000
"""Of ARPACK, some twenty products each, after which the eigenvalues count as not converging."""


def drift(
    model: nn.Module,
    loss_fn: Loss,
    data: Any,
    times: Iterable[float],
    *,
    include: Include = None,
    batch_weight: BatchWeight | None = None,
    rtol: float = 1e-7,
) -> pd.DataFrame:
    """The displacement of the weights under ẇ = b + P w, with P and b of the start, and under the flow ẇ = −∇C.

    The velocities agree at the start, where b + P w = −∇C(w). P depends on the weights, so that the error of the
    predicted displacement grows with the square of the time, and its relative error linearly.

    Args:
        model: the network, in evaluation mode; a copy moves, the model stays as it is.
        loss_fn: the loss, as for :class:`~linegraph.NeuralCoupling`.
        data: one pair or an iterable of pairs.
        times: times after the start, positive and rising; s steps of gradient descent of learning rate η take t = s η.
        include: which weights are synapses and move; all else is held.
        batch_weight: what the loss of a batch counts for, as for :class:`~linegraph.NeuralCoupling`.
        rtol: tolerance of both integrations.

    Returns:
        One row per time: ``time``, ``real`` and ``predicted`` (norms of the displacements), ``error`` (norm of their
        difference), ``relative_error``, ``cosine`` (of the angle between them; nan where nothing moves), ``loss``.

    Raises:
        DataError: if the times are not positive and rising.
        IntegrationError: if the weights diverge before the last time.

    Cost: a few dozen gradients of the loss and as many products.

    Source: C. Jiang et al., arXiv 2201.04194, for the linear dynamics.

    Example:
        >>> import torch, linegraph as lg
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
        >>> data = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
        >>> table = lg.dynamics.drift(model, torch.nn.functional.mse_loss, data, [0.001, 0.002])
        >>> bool((table["relative_error"] < 0.01).all())
        True
    """
    check_module(model)
    check_type("times", times, Iterable, "a list of positive, rising numbers")
    moments = [as_real("each of the times, positive and rising,", time) for time in times]
    as_real("rtol", rtol, 0)
    if not moments or not all(a < b for a, b in pairwise([0, *moments])):
        raise DataError(f"times must be positive and rising, got {moments}")
    moving = _copied(model)
    P = NeuralCoupling(moving, loss_fn, data, include=include, batch_weight=batch_weight)
    start = P.weights()
    clock = [0.0, *moments]
    predicted = trajectory(P, EdgeDynamics(P.drive()), start, clock, rtol=rtol) - start
    flow = _GradientFlow(moving, loss_fn, P)
    real = flow.follow(start, clock, rtol) - start
    rows = []
    for time, a, b in zip(moments, predicted[1:], real[1:], strict=True):
        size = float(b.norm())
        rows.append(
            {
                "time": time,
                "real": size,
                "predicted": float(a.norm()),
                "error": float((a - b).norm()),
                "relative_error": float((a - b).norm()) / size if size else float("nan"),
                "cosine": float(nn.functional.cosine_similarity(a, b, dim=0)) if size and a.any() else float("nan"),
                "loss": flow.loss(start + b),
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class TrainedEquilibrium:
    """A trained network as an equilibrium of ẇ = −∇C(w), whose Jacobian is −H.

    Attributes:
        gradient_norm: |∇C|, the 2-norm; 0 at an equilibrium.
        largest: (k,), the largest eigenvalues of the Hessian H, falling; the first is called the sharpness.
        smallest: (k,), the smallest, rising; −smallest[0] is the leading eigenvalue of the flow's Jacobian.
        stability: ``stable`` where H has no eigenvalue near or below 0, ``unstable`` where it has a negative one,
            ``marginal`` where the smallest is below 10⁻⁶ of the largest, as with weights that do not change the loss;
            ``unknown`` where the network is not at an equilibrium, or the eigenvalues do not converge and are nan.
        capacitance: the network's :class:`~linegraph.Capacitance` at these weights.
        reason: why the stability is unknown; None if it is not.
    """

    gradient_norm: float
    largest: np.ndarray
    smallest: np.ndarray
    stability: str
    capacitance: Capacitance
    reason: str | None = None


def trained_equilibrium(
    model: nn.Module,
    loss_fn: Loss,
    data: Any,
    *,
    k: int = 1,
    kind: str = "magnitude",
    include: Include = None,
    batch_weight: BatchWeight | None = None,
    tol: float = 1e-3,
) -> TrainedEquilibrium:
    """Whether a trained network is at an equilibrium of the gradient flow, its stability, and its capacitance there.

    Eigenvalues of the Hessian of the loss by the synapse weights, matrix-free through ``curvlinops`` and ARPACK; dense
    up to 200 synapses. H holds all second derivatives of the loss, of which P covers the part that is linear in the
    weights of the next layers.

    Args:
        model: the network, in evaluation mode; it stays as it is.
        loss_fn: the loss, as for :class:`~linegraph.NeuralCoupling`.
        data: one pair or an iterable of pairs.
        k: how many eigenvalues at either end.
        kind: of the coupling whose capacitance is formed.
        include: which weights are synapses; the Hessian is by these.
        batch_weight: what the loss of a batch counts for, as for :class:`~linegraph.NeuralCoupling`.
        tol: the network is at rest where |∇C| ≤ tol · λ · |w|, with λ the largest |eigenvalue|: where a step down the
            steepest curvature moves the weights by no more than this share.

    Returns:
        A :class:`TrainedEquilibrium`.

    Raises:
        DataError: if ``tol`` is not positive and finite, or k out of range.
        ImportError: if ``curvlinops-for-pytorch`` is not installed; ``pip install 'neural-linegraph[hessian]'``.

    Cost: some tens to hundreds of Hessian products, each about two training steps.

    Source: curvlinops, F. Dangel et al., arXiv 2501.19183.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
        >>> data = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
        >>> found = lg.dynamics.trained_equilibrium(model, torch.nn.functional.mse_loss, data)
        >>> found.stability, found.reason.partition(":")[0]  # before any training
        ('unknown', 'the network is not at rest')
    """
    check_module(model)
    check_tolerance(tol)
    still = _copied(model)
    P = NeuralCoupling(still, loss_fn, data, kind=kind, include=include, batch_weight=batch_weight)
    n = P.num_nodes
    if not 1 <= k <= n:
        raise DataError(f"k must be from 1 to the number of synapses {n}, got {k}")
    beta = capacitance(P)
    hessian = _hessian(still, loss_fn, P)
    largest, smallest = _ends(hessian, k)
    steepest = max(abs(largest[0]), abs(smallest[0]))
    margin = 1e-6 * steepest
    stability = "unstable" if smallest[0] < -margin else "stable" if smallest[0] > margin else "marginal"
    gradient, reason = float(P.gradient().norm()), None
    bound = tol * steepest * float(P.weights().norm())
    if math.isnan(steepest):
        stability, reason = "unknown", "the eigenvalues of the Hessian did not converge"
    elif not gradient <= bound:
        stability = "unknown"
        reason = f"the network is not at rest: |∇C| = {gradient:.3g}, where {bound:.3g} would do; train it further"
    return TrainedEquilibrium(
        gradient_norm=gradient,
        largest=largest,
        smallest=smallest,
        stability=stability,
        capacitance=beta,
        reason=reason,
    )


def _copied(model: nn.Module) -> nn.Module:
    """A copy of the model in evaluation mode, without the temporary changes of a pass in another thread."""
    with turn():
        return copy.deepcopy(model).eval()


class _GradientFlow:
    """ẇ = −∇C(w) of the synapses of a model, which it moves."""

    def __init__(self, model: nn.Module, loss_fn: Loss, P: NeuralCoupling) -> None:
        self.model, self.loss_fn, self.P = model, loss_fn, P
        named = dict(model.named_parameters())
        self.parameters = [named[s.name] for s in P.synapses]
        self.names = [s.name for s in P.synapses]

    def __call__(self, w: Tensor) -> Tensor:
        with torch.enable_grad():
            gradients = torch.autograd.grad(self._loss(w), self.parameters)
        return -torch.cat([g.flatten() for g in gradients]).to(w)

    def loss(self, w: Tensor) -> float:
        """The loss C(w)."""
        with torch.no_grad():
            return float(self._loss(w))

    def follow(self, start: Tensor, times: list[float], rtol: float) -> Tensor:
        """The weights (T, n) at given times."""
        moments = torch.tensor(times, dtype=torch.float64, device=start.device)
        return integrate(lambda _, w: self(w), start, moments, rtol, rtol * 1e-2)

    def _loss(self, w: Tensor) -> Tensor:
        with torch.no_grad():
            for name, part in self.P.split(w).items():
                self.parameters[self.names.index(name)].copy_(part)
        total, weights = torch.zeros((), dtype=w.dtype, device=w.device), 0.0
        for batch in self.P.passes.readings.read():
            total = total + batch.weight * self.loss_fn(call_model(self.model, batch.inputs), batch.targets)
            weights += batch.weight
        return total / weights if self.P.passes.averages else total


def _ends(hessian: LinearOperator, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues, falling, and the k smallest, rising; nan where they do not converge."""
    n = hessian.shape[0]
    if n <= max(DENSE_HESSIAN, 4 * k):
        matrix = hessian @ np.eye(n)
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        return values[::-1][:k], values[:k]
    options: dict[str, Any] = {"symmetric": True, "max_iter": RESTARTS}
    options["start"] = np.random.default_rng(0).standard_normal(n)
    try:
        size = float(abs(arpack(hessian, 1, "LM", tol=1e-3, **options)[0][0]))

        def from_the_other_end(sign: int) -> np.ndarray:
            # ARPACK resolves an eigenvalue relative to itself, which 0 and what is close to it never are.
            shifted = LinearOperator(hessian.shape, matvec=lambda v: 2 * size * v + sign * (hessian @ v), dtype=float)
            found, _ = arpack(shifted, k, "LA", tol=1e-8, **options)
            return np.sort(found)[::-1] - 2 * size

        return from_the_other_end(1), -from_the_other_end(-1)
    except ConvergenceError:
        return np.full(k, np.nan), np.full(k, np.nan)


def _hessian(model: nn.Module, loss_fn: Loss, P: NeuralCoupling) -> LinearOperator:
    """The Hessian by the synapses of P as a SciPy operator in double precision."""
    try:
        from curvlinops import HessianLinearOperator
    except ImportError as error:
        raise ImportError(
            f"trained_equilibrium needs curvlinops-for-pytorch ({error}); pip install 'neural-linegraph[hessian]'"
        ) from error
    named = dict(model.named_parameters())
    with turn():
        read = [*P.passes.readings.read()]
    batches = [({"inputs": batch.inputs, "weight": batch.weight}, batch.targets) for batch in read]
    hessian = HessianLinearOperator(
        _Whole(model),
        _Criterion(loss_fn, "mean" if P.passes.averages else "sum"),
        [named[s.name] for s in P.synapses],
        batches,
        batch_size_fn=lambda inputs: inputs["weight"],
        check_deterministic=False,
    ).to_scipy(np.float64)

    def multiply(v: np.ndarray) -> np.ndarray:
        with in_the_open(model), Unfused():
            found: np.ndarray = hessian @ v
            return found

    return LinearOperator(hessian.shape, matvec=multiply, matmat=multiply, dtype=np.float64)


class _Whole(nn.Module):
    """A model of any inputs as a function of one dictionary, the form that curvlinops passes on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Any]) -> Any:
        return call_model(self.model, inputs["inputs"])


class _Criterion(nn.Module):
    """A loss function as the module that curvlinops expects, saying whether batches are summed or averaged."""

    def __init__(self, loss_fn: Loss, reduction: str) -> None:
        super().__init__()
        self.loss_fn = loss_fn
        self.reduction = reduction

    def forward(self, outputs: Any, targets: Any) -> Tensor:
        return self.loss_fn(outputs, targets)
