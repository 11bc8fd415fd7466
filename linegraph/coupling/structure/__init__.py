"""Which neurons the paths join: edge counts and edge layout, without values."""
