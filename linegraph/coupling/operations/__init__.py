"""Weighted operations: one rule for each, and what torch functions do to their inputs.

A weighted operation is bilinear in weight and input, y = W · x. Products with P need three products of it, which are
the derivatives of the trilinear form ⟨g, V · x⟩ of an input x, a V of the weight's shape and an output gradient g:

=====================  ==========  ===========================================
``apply(x, V)``        V · x       derivative of the form by g
``to_input(V, g)``     Vᵀ g        derivative by x
``to_weight(x, g)``    x ⊗ g       derivative by V, summed over samples and positions
=====================  ==========  ===========================================

``apply_ones`` and ``to_input_ones`` are the first two for V = 1: sums over channels, which are far cheaper. A rule also
says which *neurons* its weights join, and what else the operation can do (:class:`Rule`).

To add a weighted operation, write a subclass of :class:`Rule`, or take one of those here, and a binder: a function with
the signature of the torch function, decorated with ``@binds(function, ...)``, that returns which argument is the input
and which the weight. :func:`check_rule` tests them. ``docs/own_operation.md`` does this step by step.

The public names are those of ``linegraph.operations``.
"""

from linegraph.coupling.operations import fused as fused  # registers its decompositions
from linegraph.coupling.operations.check import check_rule
from linegraph.coupling.operations.convolution import Convolution, TransposedConvolution
from linegraph.coupling.operations.elementwise import Offset, Scale
from linegraph.coupling.operations.embedding import Embedding
from linegraph.coupling.operations.linear import BatchedMatmul, Linear, Matmul
from linegraph.coupling.operations.reductions import Reduction
from linegraph.coupling.operations.rules import Bound, Rule, binds, unbinds

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
