"""``python -m linegraph``."""

from linegraph.cli import main

main()
