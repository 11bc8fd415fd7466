"""Scores of a network at initialisation: sums over its weights of products with derivatives of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules import batchnorm, conv, instancenorm
from torch.utils._pytree import tree_leaves, tree_map

from linegraph.coupling.model.data import call_model, tensors_in
from linegraph.errors import DataError, NonFiniteError
from linegraph.selection.constructed import Call, batch_losses, checked, finite, trainable_weights, unchanged
from linegraph.selection.methods import register_method
from linegraph.selection.scoring import logits

__all__ = ["fisher", "grad_norm", "grasp", "jacobian_covariance", "snip", "synflow"]

Loss = Callable[[Any, Any], Tensor]

NORMALISATIONS = (
    *(batchnorm._BatchNorm, instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
    nn.LocalResponseNorm,
)
STABILISER = 1e-5


def grad_norm(model: nn.Module, loss_fn: Loss, data: Any) -> float:
    """The sum over weight tensors of the Euclidean norm of the gradient, Σ_l ‖∂C/∂w_l‖.

    Weights are the trainable parameters with two or more dimensions. The model is in evaluation mode, except that batch
    norm uses the statistics of the batch; it is left unchanged, as are the random generators.

    Args:
        model: the network, as constructed.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over samples.
        data: one (inputs, targets) pair, or an iterable of pairs; C is the loss on all of it.

    Returns:
        The score, at least 0; higher is better.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the data have no sample.
        LossError: if ``loss_fn`` is not a function.
        NoSynapseError: if there is no trainable weight.
        NonFiniteError: if the score is not finite.

    Cost: one forward and backward pass over the data.

    Source: M. Abdelfattah et al., ICLR 2021, arXiv 2101.08134.

    Example:
        >>> import torch
        >>> from linegraph.selection import grad_norm
        >>> model = torch.nn.Linear(3, 2)
        >>> data = torch.randn(8, 3), torch.arange(8) % 2
        >>> grad_norm(model, torch.nn.functional.cross_entropy, data) > 0
        True
    """
    with unchanged(model) as call:
        weights = trainable_weights(model)
        return finite("the norm of the gradient", sum(g.norm() for g in _gradient(call, loss_fn, data, weights)))


def snip(model: nn.Module, loss_fn: Loss, data: Any) -> float:
    """SNIP: Σ_i |w_i ∂C/∂w_i| over all weights, the effect of removing each on the loss, to first order.

    Args:
        model: the network, as for :func:`grad_norm`.
        loss_fn: ``loss_fn(outputs, targets)``.
        data: one (inputs, targets) pair, or an iterable of pairs.

    Returns:
        The score, at least 0; higher is better.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the data have no sample.
        LossError: if ``loss_fn`` is not a function.
        NoSynapseError: if there is no trainable weight.
        NonFiniteError: if the score is not finite.

    Cost: one forward and backward pass over the data.

    Source: N. Lee, T. Ajanthan, P. Torr, ICLR 2019, arXiv 1810.02340; as a score by M. Abdelfattah et al., ICLR 2021.

    Example:
        >>> import torch
        >>> from linegraph.selection import snip
        >>> data = torch.randn(8, 3), torch.arange(8) % 2
        >>> snip(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, data) > 0
        True
    """
    with unchanged(model) as call:
        weights = trainable_weights(model)
        gradient = _gradient(call, loss_fn, data, weights)
        return finite("SNIP", sum((w.detach() * g).abs().sum() for w, g in zip(weights, gradient, strict=True)))


def grasp(model: nn.Module, loss_fn: Loss, data: Any) -> float:
    """GraSP: −wᵀ H g, with g the gradient and H the Hessian of the loss by the weights.

    To first order, the removal of weight i changes ‖g‖² by −2 w_i (H g)_i. Pruning removes the weights where this is
    highest; as a score of networks, the sum is taken with this sign.

    Args:
        model: the network, as for :func:`grad_norm`.
        loss_fn: ``loss_fn(outputs, targets)``.
        data: one (inputs, targets) pair, or an iterable of pairs.

    Returns:
        The score, of any sign; higher is better.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the data have no sample.
        LossError: if ``loss_fn`` is not a function.
        NoSynapseError: if there is no trainable weight.
        NonFiniteError: if the score is not finite.

    Cost: a gradient, then a Hessian-vector product by double backward; about four forward and backward passes.

    Source: C. Wang, G. Zhang, R. Grosse, ICLR 2020, arXiv 2002.07376; as a score by M. Abdelfattah et al., ICLR 2021.

    Example:
        >>> import math, torch
        >>> from linegraph.selection import grasp
        >>> data = torch.randn(8, 3), torch.arange(8) % 2
        >>> math.isfinite(grasp(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, data))
        True
    """
    with unchanged(model) as call:
        weights = trainable_weights(model)
        gradient = _gradient(call, loss_fn, data, weights)
        total = 0.0
        for loss, share in batch_losses(call, loss_fn, data):
            first = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
            slope = sum((a * g).sum() for a, g in zip(first, gradient, strict=True) if a is not None)
            if isinstance(slope, Tensor) and slope.requires_grad:  # otherwise the loss is linear in the weights
                second = torch.autograd.grad(slope, weights, allow_unused=True)
                total -= share * sum(
                    float((w.detach() * h).sum()) for w, h in zip(weights, second, strict=True) if h is not None
                )
        return finite("GraSP", total)


def fisher(model: nn.Module, loss_fn: Loss, data: Any) -> float:
    """Fisher saliency: ½ Σ_l Σ_c Σ_n (Σ_p a_ncp ∂C/∂a_ncp)², over layers, channels, samples and positions.

    a are the outputs of the linear and convolutional layers: modules without parts whose ``weight`` is trainable and
    has two or more dimensions, but no embeddings. The published mean over samples is this sum divided by their number.

    Args:
        model: the network, as for :func:`grad_norm`.
        loss_fn: ``loss_fn(outputs, targets)``.
        data: one (inputs, targets) pair, or an iterable of pairs.

    Returns:
        The score, at least 0; higher is better.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the data have no sample, or the model calls no linear or convolutional layer.
        LossError: if ``loss_fn`` is not a function.
        NonFiniteError: if the score is not finite.

    Cost: one forward and backward pass over the data.

    Source: L. Theis et al., arXiv 1801.05787; J. Turner et al., ICLR 2020, arXiv 1906.04113; as a score by M.
    Abdelfattah et al., ICLR 2021.

    Example:
        >>> import torch
        >>> from linegraph.selection import fisher
        >>> data = torch.randn(8, 3), torch.arange(8) % 2
        >>> fisher(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, data) > 0
        True
    """
    seen: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor) and output.requires_grad:
            seen.append((module, output))
            return output.clone()  # what follows may write into it
        return output

    with unchanged(model) as call:
        handles = [layer.register_forward_hook(keep) for layer in model.modules() if _is_layer(layer)]
        try:
            total = 0.0
            for loss, share in batch_losses(call, loss_fn, data):
                if not seen:
                    raise DataError("the model calls no linear or convolutional layer with trainable weights")
                slopes = torch.autograd.grad(loss, [output for _, output in seen], allow_unused=True)
                for (layer, output), slope in zip(seen, slopes, strict=True):
                    if slope is not None:
                        by_channel = _over_positions(layer, output.detach() * slope * share)
                        total += 0.5 * float(by_channel.pow(2).sum())
                seen.clear()
            return finite("the Fisher saliency", total)
        finally:
            for handle in handles:
                handle.remove()


def jacobian_covariance(model: nn.Module, loss_fn: Loss, data: Any) -> float:
    """Jacobian covariance: −Σ_i [log(v_i + k) + 1/(v_i + k)], k = 1e−5, v the eigenvalues of a correlation matrix.

    The matrix (N, N) has the correlations between the samples' gradients by their inputs of the sum of all outputs. It
    is symmetric, so the eigenvalues are real; negative ones, which are rounding errors, are taken as 0. Two samples
    that are alike add about −1/k.

    Args:
        model: the network, as for :func:`grad_norm`.
        loss_fn: not used.
        data: one (inputs, targets) pair, or an iterable of pairs, with floating-point inputs of one size.

    Returns:
        The score, negative; higher is better.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the data have no sample, inputs are integers or of different sizes, or the outputs do not depend
            on the inputs of a sample, or equally on all of them.
        NonFiniteError: if a gradient is not finite.

    Cost: one forward and backward pass over the data, and the eigenvalues of a matrix (N, N).

    Source: J. Mellor et al., arXiv 2006.04647v1; M. Abdelfattah et al., ICLR 2021, arXiv 2101.08134.

    Example:
        >>> import torch
        >>> from linegraph.selection import jacobian_covariance
        >>> model = torch.nn.Sequential(torch.nn.Linear(9, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))
        >>> jacobian_covariance(model, None, (torch.randn(4, 9), torch.arange(4) % 2)) < 0
        True
    """
    with unchanged(model) as call:
        rows = [_input_gradients(call, inputs) for inputs, _ in checked(data)]
    if len({row.shape[1] for row in rows}) != 1:
        raise DataError("the inputs of the batches differ in size, so their gradients have no correlation")
    jacobian = torch.cat(rows).double().cpu()
    if not bool(jacobian.isfinite().all()):
        raise NonFiniteError("the gradients of the outputs by the inputs are not finite")
    jacobian = jacobian - jacobian.mean(1, keepdim=True)
    norms = jacobian.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise DataError(
            f"the gradient by the inputs of sample {int((norms[:, 0] == 0).nonzero()[0])} is constant, so that it has "
            "no correlation with others"
        )
    values = torch.linalg.eigvalsh((jacobian / norms) @ (jacobian / norms).T).clamp(min=0) + STABILISER
    return finite("the Jacobian covariance", -(values.log() + 1 / values).sum())


def synflow(model: nn.Module, loss_fn: Loss, data: Any) -> float:
    """SynFlow: log Σ_i |w_i ∂R/∂w_i| over all weights, R = 1ᵀ f(1; |w|), the flow through absolute weights.

    The input is all ones, of the shape of one sample; all parameters are replaced by their absolute values, in double
    precision. Normalisations of torch, batch norm and others, are left out, as in the variant without batch norm:
    their division would undo the flow. The published score is the sum itself, which overflows in tables; its logarithm
    orders alike.

    Args:
        model: the network, as for :func:`grad_norm`.
        loss_fn: not used.
        data: one (inputs, targets) pair, or an iterable of pairs, of which only the shape of a sample is read.

    Returns:
        The score; higher is better.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the data have no sample.
        NoSynapseError: if there is no trainable weight.
        NonFiniteError: if the flow is 0, infinite or nan.

    Cost: one forward and backward pass of one sample in double precision.

    Source: H. Tanaka et al., NeurIPS 2020, arXiv 2006.05467; as a score by M. Abdelfattah et al., ICLR 2021.

    Example:
        >>> import math, torch
        >>> from linegraph.selection import synflow
        >>> model = torch.nn.Linear(3, 2, bias=False)
        >>> flow = math.exp(synflow(model, None, (torch.randn(8, 3), torch.arange(8))))
        >>> math.isclose(flow, model.weight.double().abs().sum().item())
        True
    """
    with unchanged(model):
        chosen = {id(p) for p in trainable_weights(model)}
        shared: dict[int, Tensor] = {}  # tied weights are one
        state: dict[str, Tensor] = {}
        for name, p in model.named_parameters(remove_duplicate=False):
            absolute = shared.setdefault(id(p), _double(p.detach().abs()).requires_grad_(id(p) in chosen))
            state[name] = absolute
        state |= {name: _double(buffer) for name, buffer in model.named_buffers(remove_duplicate=False)}
        ones = tree_map(_ones, _plain(checked(data)[0][0]))
        for module in model.modules():
            if isinstance(module, NORMALISATIONS):
                module.__dict__["forward"] = _bypass  # the context restores it
        outputs = call_model(lambda *args, **named: functional_call(model, state, args, named), ones)
        flow = sum(t.sum() for t in tree_leaves(logits(outputs)) if isinstance(t, Tensor))
        weights = [shared[each] for each in shared if each in chosen]
        slopes = torch.autograd.grad(flow, weights, allow_unused=True)  # type: ignore[arg-type]
        total = sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, slopes, strict=True) if g is not None)
    if not total:
        raise NonFiniteError("the flow through the absolute weights is 0, so SynFlow has no logarithm")
    return finite("SynFlow", math.log(total))


def _gradient(call: Call, loss_fn: Loss, data: Any, weights: list[nn.Parameter]) -> list[Tensor]:
    """The gradient of the loss on all data."""
    total = [torch.zeros_like(w) for w in weights]
    for loss, share in batch_losses(call, loss_fn, data):
        for sums, g in zip(total, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
            if g is not None:
                sums += share * g
    return total


def _input_gradients(call: Call, inputs: Any) -> Tensor:
    """The gradient of the sum of the outputs by the inputs, a row per sample."""
    inputs = _plain(inputs)
    if not any(t.dtype.is_floating_point for t in tensors_in(inputs)):
        raise DataError("the inputs are integers, such as token ids, by which there is no gradient")
    inputs = tree_map(lambda t: t.detach().requires_grad_() if _is_floating(t) else t, inputs)
    leaves = [t for t in tensors_in(inputs) if t.requires_grad]
    output = sum(t.sum() for t in tree_leaves(call(inputs)) if isinstance(t, Tensor))
    slopes = torch.autograd.grad(output, leaves, allow_unused=True)  # type: ignore[arg-type]
    found = [g.flatten(1) for g in slopes if g is not None]
    if not found:
        raise DataError("the outputs do not depend on the inputs")
    return torch.cat(found, dim=1)


def _is_layer(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    is_weighted = isinstance(weight, nn.Parameter) and weight.requires_grad and weight.ndim >= 2
    return is_weighted and not [*module.children()] and not isinstance(module, nn.Embedding | nn.EmbeddingBag)


def _over_positions(layer: nn.Module, product: Tensor) -> Tensor:
    """The sum over positions (N, channels) of a product of the shape of a layer's outputs."""
    if isinstance(layer, conv._ConvNd):
        return product.flatten(2).sum(2)
    return product.reshape(len(product), -1, product.shape[-1]).sum(1)


def _is_floating(t: Any) -> bool:
    return isinstance(t, Tensor) and t.dtype.is_floating_point


def _plain(inputs: Any) -> Any:
    return dict(inputs) if isinstance(inputs, Mapping) else inputs


def _double(t: Tensor) -> Tensor:
    return t.double() if _is_floating(t) else t


def _ones(t: Any) -> Any:
    return _double(torch.ones_like(t[:1] if t.ndim else t)) if isinstance(t, Tensor) else t


def _bypass(inputs: Tensor, *_others: Any) -> Tensor:
    return inputs.clone()  # what follows may write into it


for name, function, formula, source, cost in (
    ("grad_norm", grad_norm, "Σ_l ‖∂C/∂w_l‖", "Abdelfattah et al., ICLR 2021, arXiv 2101.08134", 1.0),
    ("snip", snip, "Σ_i |w_i ∂C/∂w_i|", "Lee, Ajanthan, Torr, ICLR 2019, arXiv 1810.02340", 1.0),
    ("grasp", grasp, "−wᵀ H ∂C/∂w", "Wang, Zhang, Grosse, ICLR 2020, arXiv 2002.07376", 3.5),
    ("fisher", fisher, "½ Σ_l Σ_c Σ_n (Σ_p a ∂C/∂a)²", "Turner et al., ICLR 2020, arXiv 1906.04113", 1.0),
    ("jacobian_covariance", jacobian_covariance, "−Σ_i [log(v_i + k) + 1/(v_i + k)]", "arXiv 2006.04647v1", 1.0),
    ("synflow", synflow, "log Σ_i |w_i ∂R/∂w_i|, R = 1ᵀ f(1; |w|)", "Tanaka et al., arXiv 2006.05467", 0.05),
):
    register_method(name, function, needs=["initialisation"], formula=formula, source=source, cost=cost)
