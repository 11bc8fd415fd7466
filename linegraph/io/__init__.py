"""Files of networks: one module reads one format into :class:`~linegraph.io.edges.Edges`, and guesses nothing."""
