import ast
import builtins
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import linegraph as lg
from linegraph.lazy import cached_property

SLOW = [
    "torch_geometric",
    "igraph",
    "networkx",
    "matplotlib.pyplot",
    "scipy.stats",
    "sklearn",
    "transformers",
    "torchvision",
    "pandas",
    "scipy",
]
"""What takes long to import, or need not be there, and is imported where it is used."""


def test_importing_takes_little_more_than_torch():
    found = f"import sys, linegraph; print([name for name in {SLOW} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


COUPLE = """
import sys
import torch
import linegraph as lg


class Late(torch.nn.Linear):
    def forward(self, x):
        return torch.compile(torch.tanh, backend="eager")(super().forward(x))


torch.manual_seed(0)
layers = torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)
early = torch.nn.Sequential(*layers).double()
late = torch.nn.Sequential(Late(4, 3), Late(3, 3), layers[4]).double()
late.load_state_dict(dict(zip(late.state_dict(), early.state_dict().values())))
data = torch.ones(2, 4).double(), torch.zeros(2, 2).double()
found = [lg.NeuralCoupling(model, torch.nn.functional.mse_loss, data).in_strength() for model in (early, late)]
print("torch._dynamo" in sys.modules, torch.allclose(*found))
"""


def test_a_coupling_needs_no_compiler():
    """Whose import takes seconds; not even where the model would compile something in its forward pass."""
    output = subprocess.run([sys.executable, "-c", COUPLE], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False", "True"]


def test_type_checkers_see_the_names_that_are_imported_when_first_used():
    tree = ast.parse(Path(lg.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {name.name: node.module for node in block.body for name in node.names}
    assert sorted(seen) == lg.__all__
    assert {name: f"linegraph.{home}" for name, home in lg._HOMES.items()} == {
        name: module for name, module in seen.items() if module != "linegraph"
    }


def test_rooms_are_attributes_and_unknown_names_are_refused():
    assert lg.metrics.__name__ == "linegraph.metrics"
    assert {"rank", "metrics", "__version__"} <= {*dir(lg), *lg._ROOMS}
    with pytest.raises(AttributeError, match="module 'linegraph' has no attribute 'rnak'"):
        _ = lg.rnak


def test_every_public_name_resolves():
    assert all(hasattr(lg, name) for name in lg.__all__)
    assert sorted(lg.__all__) == lg.__all__


def test_public_names_are_documented():
    assert all(getattr(lg, name).__doc__ for name in lg.__all__)


HOMES = {
    **{"lg": lg, "lg.dynamics": lg.dynamics, "lg.plot": lg.plot, "lg.datasets": lg.datasets},
    **{"lg.selection": lg.selection, "lg.report": lg.report},
}
PUBLIC = {f"{home}.{name}": getattr(module, name) for home, module in HOMES.items() for name in module.__all__}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}


def sections(documented):
    """The sections of a docstring by their names."""
    parts = re.split(r"^(\w+):", inspect.getdoc(documented) or "", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def not_described(names, text):
    return [name for name in names if not re.search(rf"^    {name}:", text, re.MULTILINE)]


def missing(function, wanted):
    """The sections, and the arguments of the signature, that a docstring lacks."""
    found = sections(function)
    arguments = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    lacking = [section for section in wanted if section not in found]
    return lacking + not_described(arguments, found.get("Args", "").replace("*", ""))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_of_functions_have_all_sections_and_arguments(name):
    arguments = inspect.signature(FUNCTIONS[name]).parameters
    wanted = ["Args", "Raises"] if arguments else []
    assert missing(FUNCTIONS[name], [*wanted, "Returns", "Source", "Cost", "Example"]) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_errors_and_warnings_in_docstrings_exist(name):
    documented = [PUBLIC[name], *vars(PUBLIC[name]).values()] if inspect.isclass(PUBLIC[name]) else [PUBLIC[name]]
    for each in documented:
        found = sections(each) if inspect.isclass(each) or inspect.isfunction(each) else {}
        for heading in ("Raises", "Warns"):
            for line in re.findall(r"^    ([A-Z][\w, ]*):", found.get(heading, ""), re.MULTILINE):
                for error in line.split(", "):
                    assert hasattr(lg.errors, error) or hasattr(builtins, error), (name, error)


@pytest.mark.parametrize("name", CLASSES)
def test_docstrings_of_classes_have_all_arguments_and_attributes(name):
    kind, found = CLASSES[name], sections(CLASSES[name])
    described = found.get("Args", "") + found.get("Attributes", "")
    fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    fields = [field for field in (*fields, *getattr(kind, "_fields", ())) if not field.startswith("_")]
    assert not_described(fields, described) == []
    if not fields and "__init__" in vars(kind) and "Attributes" not in found:
        assert missing(kind, []) == []
    members = inspect.getmembers(kind, lambda member: isinstance(member, property | cached_property))
    assert [each for each, member in members if not (each.startswith("_") or inspect.getdoc(member))] == []


def methods():
    for name, kind in CLASSES.items():
        if not issubclass(kind, lg.dynamics.Dynamics):  # whose methods are the terms of an equation
            for each, method in inspect.getmembers(kind, inspect.isfunction):
                if not each.startswith("_") and method.__module__.startswith("linegraph"):
                    yield f"{name}.{each}", [vars(base)[each] for base in kind.__mro__ if each in vars(base)]


@pytest.mark.parametrize(("name", "versions"), [pytest.param(*each, id=each[0]) for each in methods()])
def test_docstrings_of_methods_have_arguments_and_results(name, versions):
    """Those of a method that another overrides count, too."""
    assert any(missing(version, ["Returns"]) == [] for version in versions if inspect.isfunction(version))


def test_results_show_their_figures_and_not_their_arrays():
    ring = lg.GraphCoupling(torch.tensor([[0, 1, 2], [1, 2, 0]]))
    shown = {
        "SpectralDensity(nodes=3 from -0.5 to 1, probes=0)": lg.spectral_density(ring),
        "StrengthDistribution(direction='in', layer=None, nodes=3, values=1, from 1 to 1)": lg.strength_distribution(
            ring, direction="in"
        ),
        "Communities(communities=1, nodes=3, modularity=0)": lg.communities(ring),
    }
    assert [repr(found) for found in shown.values()] == list(shown)


def of_the_name(folder, name, record=None):
    """The metadata of an installed distribution, with the files that it says it has; None: it does not say."""
    info = folder / f"{name}-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    if record is not None:
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*record, f"{info.name}/METADATA"]))


def warned_on_import(folder):
    script = (
        f"import sys, warnings; sys.path.append({str(folder)!r}); warnings.simplefilter('always'); import linegraph;"
        "print(linegraph.__file__)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == lg.__file__
    return "NameClashWarning" in ran.stderr and str(folder) in ran.stderr


@pytest.mark.parametrize(
    ("name", "record"),
    [("linegraph", None), ("linegraph", ["linegraph/__init__.py"]), ("LineGraph", ["LineGraph/a.py", "tests/b.py"])],
)
def test_another_distribution_with_this_name_is_told_on_import(tmp_path, name, record):
    of_the_name(tmp_path, name, record)
    assert warned_on_import(tmp_path)


@pytest.mark.parametrize(("name", "record"), [("linegraph", ["lines/graph.py"]), ("linegraph_tools", None)])
def test_distributions_without_a_package_of_this_name_are_not_told_of(tmp_path, name, record):
    of_the_name(tmp_path, name, record)
    assert not warned_on_import(tmp_path)


def test_the_citation_is_of_this_version():
    lines = Path(__file__).parents[1].joinpath("CITATION.cff").read_text().splitlines()
    assert f"version: {lg.__version__}" in lines
