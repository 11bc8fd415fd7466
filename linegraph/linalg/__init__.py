"""Krylov methods, eigenvalues, components and derived operators, for any coupling."""
