"""Who may import whom: the rooms of the package, from the ground up."""

import ast
import inspect
from pathlib import Path

import networkx as nx
import pytest

import linegraph as lg

PACKAGE = Path(lg.__file__).parent

FLOORS = [
    {
        "anatomy",
        "arguments",
        "datasets",
        "errors",
        "files",
        "functions",
        "identity",
        "lazy",
        "numerics",
        "packages",
        "processes",
        "progress",
        "pyg",
        "quiet",
        "randomness",
        "turns",
    },
    {"coupling"},
    {"io"},
    {"linalg", "graphs"},
    {"metrics"},
    {"dynamics", "selection", "topologies"},
    {"plot", "lightning", "transformers"},
    {"report"},
    {"linegraph", "cli", "operations", "__main__"},
]
"""Rooms may import what stands on lower floors; those of one floor import each other on the first and last only."""

OF_NETWORKS = {"neural", "kinds", "operations", "tracing", "structure", "entries", "model", "recorded", "verification"}
"""Parts of ``linegraph.coupling`` that know of neural networks."""


def name_of(path):
    return ".".join(("linegraph", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imported(module):
    """The modules of the package that a module imports anywhere: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "linegraph":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


IMPORTS = nx.DiGraph([(module, other) for module in MODULES for other in imported(module)])


def room(module):
    return module.split(".")[1] if "." in module else module


def floor(module):
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def inner_room(module):
    """The part of ``linegraph.coupling`` that a module is in."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["linegraph", "coupling"] and len(parts) > 2 else None


def test_every_room_stands_on_a_floor():
    assert {room(module) for module in MODULES} == set().union(*FLOORS)


def test_imports_lead_downwards():
    ends = {0, len(FLOORS) - 1}
    wrong = [
        f"{module} imports {other}"
        for module, other in IMPORTS.edges
        if floor(other) > floor(module)
        or (floor(other) == floor(module) and room(other) != room(module) and floor(module) not in ends)
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    assert [part for part in nx.strongly_connected_components(IMPORTS) if len(part) > 1] == []
    assert list(nx.selfloop_edges(IMPORTS)) == []


def test_no_rooms_of_the_coupling_import_each_other_in_a_circle():
    rooms = {
        inner_room(module) for module in MODULES if inner_room(module) and MODULES[module].parent.name != "coupling"
    }
    between = nx.DiGraph()
    for module, other in IMPORTS.edges:
        pair = inner_room(module), inner_room(other)
        if pair[0] != pair[1] and set(pair) <= rooms:
            between.add_edge(*pair)
    assert [part for part in nx.strongly_connected_components(between) if len(part) > 1] == []


@pytest.mark.parametrize("place", ["metrics", "linalg"])
def test_metrics_and_linear_algebra_know_nothing_of_networks(place):
    wrong = [
        f"{module} imports {other}"
        for module, other in IMPORTS.edges
        if room(module) == place and inner_room(other) in OF_NETWORKS
    ]
    assert not wrong


@pytest.mark.parametrize("space", [lg, lg.dynamics, lg.plot, lg.selection], ids=lambda space: space.__name__)
def test_no_module_has_the_name_of_a_public_function_of_its_room(space):
    functions = {name for name in space.__all__ if inspect.isfunction(getattr(space, name))}
    modules = {module.rsplit(".", 1)[-1] for module in MODULES if module.startswith(f"{space.__name__}.")}
    assert functions & modules == set()


def test_tests_lie_as_the_package_does():
    here = Path(__file__).parent
    folders = {path.parent.relative_to(here) for path in here.rglob("test_*.py")} - {Path("docs")}
    assert all((PACKAGE / folder / "__init__.py").exists() for folder in folders)
