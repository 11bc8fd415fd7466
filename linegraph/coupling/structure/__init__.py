"""The structure of P: which neurons the paths join, how many edges that makes, and where each edge stands."""
