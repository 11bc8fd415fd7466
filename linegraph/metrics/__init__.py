"""Metrics: each is one function that takes any coupling."""
