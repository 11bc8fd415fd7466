"""Reports: one HTML page with tables, figures and their data, which needs nothing from the network.

``Page`` is a page of one's own; ``ranking`` makes one of what :func:`~linegraph.rank` returns, ``analysis`` one of any
coupling.
"""

from linegraph.report.candidates import ranking
from linegraph.report.couplings import analysis
from linegraph.report.page import Page

__all__ = ["Page", "analysis", "ranking"]
