"""The operator P: what everything else stands on."""
