"""Reports: one HTML page with tables, figures and their data, which needs nothing from the network."""

from linegraph.report.page import Page

__all__ = ["Page"]
