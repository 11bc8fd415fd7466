"""How one pass of a model is recorded and swept."""
