"""Graphs from and to files and other libraries.

Each file format has a module that reads it into :class:`~linegraph.io.edges.Edges`. Ambiguous files are refused.
"""
