"""Explicit entries of P, computed in blocks, and sums of entries over neurons."""
