"""Sizes up to which a dense matrix is formed, a sparse one is factored, or the edges of a network are listed.

The times are of one core of a server (AMD EPYC) in double precision. Sparse matrices are random, with eight entries a
row where nothing else is said.
"""

__all__ = [
    "DENSE_EIGENVALUES",
    "DENSE_HESSIAN",
    "DENSE_LU",
    "DENSE_PRODUCTS",
    "LISTED_EDGES",
    "MULTIPLIED_EDGES",
    "SPARSE_LU_ABOVE",
    "SPARSE_LU_UP_TO",
]

DENSE_PRODUCTS = 256
"""Nodes up to which P becomes a matrix, by n products in one block, and LAPACK finds its eigenvalues.

All eigenvalues take 25 ms for 256 nodes and 57 ms for 400; ARPACK finds the first five in 6 and 12 ms. LAPACK is taken
where it is quick, since it misses no copy of a tied eigenvalue and always converges.
"""

DENSE_EIGENVALUES = 400
"""Nodes up to which the eigenvalues of a Jacobian are those of a dense matrix.

57 ms for 400 nodes and 206 ms for 600. ARPACK takes 1 ms, but may not converge on a matrix that is far from normal.
"""

DENSE_LU = 400
"""Nodes up to which a step of Newton's method solves by dense LU, where sparse LU is not taken.

1.2 ms for 400 nodes and 4 ms for 600. GMRES takes 0.6 ms for a diagonally dominant matrix and many times that near a
fold, where it may not reach the tolerance.
"""

SPARSE_LU_ABOVE = 64
"""Nodes from which on sparse LU is preferred to dense LU: 0.04 ms and 0.02 ms for 64 nodes, 1.2 ms and 2.6 ms for 400
(three entries a row)."""

SPARSE_LU_UP_TO = 5000
"""Nodes up to which a step of Newton's method solves by sparse LU, if there are at most four edges a node.

On trees 0.9 ms for 2,000 nodes and 2.7 ms for 5,000. On random networks of three edges a node, where LU fills in, 0.3 s
and 1.3 s; it is still taken, for a step that is exact near a fold.
"""

DENSE_HESSIAN = 200
"""Synapses up to which the Hessian becomes a matrix, by as many products, each of the cost of two training steps.

ARPACK takes 70 products for both ends of a spectrum that is spread out, and up to 2,000 where many eigenvalues lie near
0.
"""

LISTED_EDGES = 1_000_000
"""Edges up to which the line graph of a network is built to compute a quantity exactly: a few seconds."""

MULTIPLIED_EDGES = 100_000
"""Edges up to which the line graph of a network is built for repeated products.

With 512 images of digits, a convolutional network of 56,448 edges takes 3.1 ms a product, its graph 0.06 ms, and
building the graph 0.5 s, the time of 160 products; a perceptron of 108,544 edges takes 0.8 ms, 0.25 ms and 10 ms. With
226,000 edges, building the graph of a convolutional network takes 3.1 s, the time of 680 products, more than singular
values need.
"""
