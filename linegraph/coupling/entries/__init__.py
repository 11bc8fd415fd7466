"""The values of explicit entries of P, in blocks, and their sums over neurons."""
