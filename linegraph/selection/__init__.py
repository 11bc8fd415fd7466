"""Model selection: capacitance over the first epochs, predictions of the final accuracy, rankings of candidates.

Importing the package fills the registry of methods: each family of methods registers its own.
"""

from linegraph.selection import regression, seen

__all__ = ["regression", "seen"]
