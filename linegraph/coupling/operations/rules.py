"""Rules of weighted operations, and the registry that finds the rule for a call of a torch function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

__all__ = ["Bound", "Rule", "Shape", "applied", "bind", "binds", "is_product", "names_its_input", "unbinds"]

Shape = tuple[int, ...]


class Rule(ABC):
    """A weighted operation y = W · x, bilinear in its weight W and its input x: its products, neurons and properties.

    A subclass gives the products with W · x, Wᵀ g and x ⊗ g (g is the gradient at the output y), and the neurons that
    its weights join. The attributes and methods with a default state what else the operation can do.

    What must hold for all x, W and g, and is tested by :func:`~linegraph.coupling.operations.check_rule`:

    - W · x is linear in W and linear in x.
    - ⟨g, W · x⟩ = ⟨Wᵀ g, x⟩ = ⟨x ⊗ g, W⟩; Wᵀ g and x ⊗ g can be differentiated by g.
    - The products of ones are those of a weight of ones.
    - An entry of W changes y only at the index of its output neuron along ``output_dim``, and reads x only at the index
      of its input neuron along ``input_dim``; the degrees count these entries.
    - The products compute with any x, W and g, since kind="magnitude" passes absolute values.

    A frozen dataclass is the usual form: rules of equal fields are then equal. ``docs/own_operation.md`` writes one.
    """

    is_autocast: ClassVar[bool] = False
    """Whether ``torch.autocast`` runs the operation in low precision."""

    has_factors: ClassVar[bool] = False
    """Whether :mod:`~linegraph.coupling.operations.factors` writes its entries of P as products of matrices."""

    broadcasts: ClassVar[bool] = False
    """Whether W may lack leading dimensions of x, as if it were repeated along them; x ⊗ g is summed over them."""

    @property
    @abstractmethod
    def op(self) -> str:
        """Name of the operation, as shown to users."""

    @property
    @abstractmethod
    def input_dim(self) -> int | None:
        """Dimension of x that counts input neurons; None where no dimension of x does."""

    @property
    @abstractmethod
    def output_dim(self) -> int:
        """Dimension of y that counts output neurons."""

    @property
    @abstractmethod
    def weight_dims(self) -> tuple[int, int]:
        """Dimensions of W that count output and input neurons."""

    @abstractmethod
    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """W · x, in newly allocated memory."""

    @abstractmethod
    def apply_ones(self, x: Tensor, weight_shape: Shape) -> Tensor:
        """W · x for a weight W of ones."""

    @abstractmethod
    def to_input(self, weight: Tensor, g: Tensor, x_shape: Shape) -> Tensor:
        """Wᵀ g, of the shape of x."""

    @abstractmethod
    def to_input_ones(self, g: Tensor, x_shape: Shape, weight_shape: Shape) -> Tensor:
        """Wᵀ g for a weight W of ones."""

    @abstractmethod
    def to_weight(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """x ⊗ g, of the shape of the weight; the values of ``weight`` are not used."""

    @abstractmethod
    def neurons(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Input and output neuron of every weight, both broadcastable to the weight's shape."""

    @abstractmethod
    def degrees(self, weight_shape: Shape) -> tuple[Tensor, Tensor]:
        """Number of weights that leave each input neuron, and that enter each output neuron."""

    def apply_with_bias(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """W · x + bias; one operation of torch where it has one, so that the sum is rounded as in training."""
        return self.apply(x, weight) + bias

    def matrices(self, x: Tensor, g: Tensor, weight_shape: Shape) -> tuple[Tensor, Tensor] | None:
        """Two matrices, views of x and g, whose product is x ⊗ g; None where there are no such views."""
        return None

    def selected_inputs(self) -> Tensor | None:
        """Input neurons that a look-up selects, which is the index of its rows; None for any other operation."""
        return None

    @property
    def num_groups(self) -> int:
        """Number of groups of channels; weights join input and output neurons of one group only."""
        return 1

    @property
    def is_one_product(self) -> bool:
        """Whether x ⊗ g is one product of two matrices, formed from the factors; needs ``has_factors``."""
        return self.has_factors and self.num_groups == 1

    @property
    def is_inputs_first(self) -> bool:
        """Whether the first dimension of W counts input neurons, as in ``x @ W``."""
        return self.weight_dims == (1, 0)


@dataclass(frozen=True)
class Bound:
    """The arguments of one call of a weighted operation by their roles: y = W · x + bias, then ``finish(y)``."""

    rule: Rule
    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    finish: Callable[[Tensor], Tensor] | None = None
    model_weight: Tensor | None = None
    """The tensor that the model passed as weight, where ``weight`` replaces it; the model may differentiate by it."""


def applied(rule: Rule, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W · x + bias, or W · x where ``bias`` is None."""
    return rule.apply(x, weight) if bias is None else rule.apply_with_bias(x, weight, bias)


Binder = Callable[..., Bound | None]

_BINDERS: dict[Callable[..., Any], list[Binder]] = {}


def binds(*functions: Callable[..., Any]) -> Callable[[Binder], Binder]:
    """Decorator that registers a binder for torch functions; every weighted operation is registered here.

    A binder has the signature of the torch function and returns the arguments of a call as a :class:`Bound`, or None
    if it does not apply to them. Calls arrive in one form, with tensors and required arguments by position. A function
    that takes its weight in several places has one binder for each place.

    Args:
        functions: functions of torch; functions of your own that call ``torch.overrides.handle_torch_function``; custom
            operators of ``torch.library``, as ``torch.ops.namespace.name``.

    Returns:
        A decorator that returns the binder.

    Example:
        >>> import torch, linegraph as lg
        >>> from linegraph import operations
        >>> def halved(x, weight):
        ...     if torch.overrides.has_torch_function((x, weight)):
        ...         return torch.overrides.handle_torch_function(halved, (x, weight), x, weight)
        ...     return torch.nn.functional.linear(x, weight) / 2
        >>> @operations.binds(halved)
        ... def binder(x, weight):
        ...     return operations.Bound(operations.Linear(), x / 2, weight)
        >>> w = torch.randn(2, 3, dtype=torch.float64)
        >>> operations.check_rule(halved, (torch.ones(4, 3, dtype=torch.float64), w), weight=w).rule.op
        'linear'
        >>> _ = operations.unbinds(binder)
    """

    def register(binder: Binder) -> Binder:
        for function in functions:
            _BINDERS.setdefault(function, []).append(binder)
        return binder

    return register


def unbinds(binder: Binder) -> list[Callable[..., Any]]:
    """Remove a binder from all functions for which :func:`binds` has registered it.

    Args:
        binder: the binder.

    Returns:
        These functions.

    Example:
        >>> import torch
        >>> from linegraph import operations
        >>> binder = operations.binds(torch.cdist)(lambda x1, x2: None)
        >>> operations.unbinds(binder) == [torch.cdist]
        True
    """
    functions = [function for function, binders in _BINDERS.items() if binder in binders]
    for function in functions:
        _BINDERS[function].remove(binder)
        if not _BINDERS[function]:
            del _BINDERS[function]
    return functions


def names_its_input(function: Callable[..., Any]) -> bool:
    """Whether a weighted operation takes input and weight in fixed places, as ``linear`` does."""
    return len(_BINDERS.get(function, ())) == 1


def is_product(function: Callable[..., Any]) -> bool:
    """Whether a weighted operation takes its weight on either side, as ``matmul`` does."""
    return len(_BINDERS.get(function, ())) > 1


def bind(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], is_weight: Callable[[Tensor], bool]
) -> Bound | None:
    """The arguments of a call by their roles, if it is a weighted operation whose weight ``is_weight``; else None."""
    for binder in _BINDERS.get(function, ()):
        bound = binder(*args, **kwargs)
        if bound is not None and is_weight(bound.weight):
            return bound
    return None
