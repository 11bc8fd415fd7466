"""Rules of weighted operations of your own, which make nodes of the weights that enter them.

``docs/own_operation.md`` writes one step by step. To add an operation, write a subclass of :class:`Rule`, or take one
of those here, and a binder: a function with the signature of the operation, decorated with ``@binds(function)``, that
returns a :class:`Bound`, which says which argument is the input and which the weight. :func:`check_rule` compares the
rule with the operation and with autograd.

Example:
    >>> import torch, linegraph as lg
    >>> x, w = torch.randn(5, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    >>> lg.operations.check_rule(torch.nn.functional.linear, (x, w), weight=w).rule.op
    'linear'
"""

from linegraph.coupling.operations import (
    BatchedMatmul,
    Bound,
    Convolution,
    Embedding,
    Linear,
    Matmul,
    Offset,
    Reduction,
    Rule,
    Scale,
    TransposedConvolution,
    binds,
    check_rule,
    unbinds,
)

__all__ = [
    "BatchedMatmul",
    "Bound",
    "Convolution",
    "Embedding",
    "Linear",
    "Matmul",
    "Offset",
    "Reduction",
    "Rule",
    "Scale",
    "TransposedConvolution",
    "binds",
    "check_rule",
    "unbinds",
]
