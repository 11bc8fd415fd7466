"""The coupling operator P, of neural networks and of explicit graphs."""
