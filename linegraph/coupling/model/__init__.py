"""The user's model and data: the parameters and batches that enter P, and how the model is restored."""
