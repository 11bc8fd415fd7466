"""Metrics of couplings: one function for each metric."""
