"""The model and the data as they are given, and as they come back."""
