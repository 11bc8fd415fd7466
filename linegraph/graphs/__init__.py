"""Graphs as PyG ``Data``: line graphs, neuron graphs, coarse graphs and samples of line graphs."""
