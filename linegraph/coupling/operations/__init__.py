"""One rule per weighted operation.

A weighted operation is bilinear: y = W · x. Everything that P needs of it follows from the
trilinear form ⟨g, V · x⟩ of an input x, a weight-shaped V and an output gradient g:

=====================  ==========  ===========================================
``apply(x, V)``        V · x       derivative of the form by g
``to_input(V, g)``     Vᵀ g        derivative by x
``to_weight(x, g)``    x ⊗ g       derivative by V, summed over samples and positions
=====================  ==========  ===========================================

``apply_ones`` and ``to_input_ones`` are the first two for V = 1, which are sums over channels and
far cheaper. A rule also says which *neurons* its weights join.

To teach linegraph another weighted operation, write its rule and a binder: a function with the
signature of the torch function, decorated with ``@binds(function, ...)``, that says which argument
is the input and which the weight.
"""

from linegraph.coupling.operations.convolution import Convolution, TransposedConvolution
from linegraph.coupling.operations.elementwise import Offset, Scale, constant_input, scale
from linegraph.coupling.operations.embedding import Embedding
from linegraph.coupling.operations.linear import BatchedMatmul, Linear, Matmul
from linegraph.coupling.operations.rules import Bound, Rule, applied, bind, binds, is_product, names_its_input

__all__ = [
    "BatchedMatmul",
    "Bound",
    "Convolution",
    "Embedding",
    "Linear",
    "Matmul",
    "Offset",
    "Rule",
    "Scale",
    "TransposedConvolution",
    "applied",
    "bind",
    "binds",
    "constant_input",
    "is_product",
    "names_its_input",
    "scale",
]
