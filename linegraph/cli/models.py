"""Models, and losses, by their names on the command line."""

from __future__ import annotations

import copy
import importlib
import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from linegraph.cli.errors import closest
from linegraph.coupling.model.losses import LOSSES, check_loss
from linegraph.errors import DataError
from linegraph.randomness import preserved_randomness, seed_generators
from linegraph.selection.candidates import digits_candidates
from linegraph.selection.constructors import Candidate, from_file, loader, named

__all__ = ["BUILT_IN", "candidates", "imported", "largest", "loss", "model"]

BUILT_IN = "digits:"
FORMS = (
    "module:function, file.py:function, the folder of a model that save_pretrained wrote, hf:name, timm:name, or "
    "digits:name"
)


def model(name: str, weights: Path | None, seed: int) -> nn.Module:
    """The network that ``--model`` names, with the weights of a file or with random ones.

    Args:
        name: see FORMS.
        weights: a file of weights; None to keep those of the model.
        seed: of the random generators before it is constructed.

    Raises:
        DataError: if there is no such model, its package is missing, or the weights do not fit it.
    """
    found = _candidates(None, name, seed)
    if len(found) != 1:
        raise DataError(f"{name} gives {len(found)} networks ({', '.join(found)}), and this command takes one")
    ((own, one),) = found.items()
    make = loader(named({own: one})[own]) or one
    with preserved_randomness():
        seed_generators(seed)
        try:
            made = make()  # type: ignore[operator]
        except Exception as error:
            raise DataError(f"{name} cannot be constructed: {_in_words(error)}") from error
    if not isinstance(made, nn.Module):
        raise DataError(f"{name} returns an object of type {type(made).__name__}, not a torch.nn.Module")
    return made if weights is None else _with_weights(made, weights)


def _with_weights(made: nn.Module, path: Path) -> nn.Module:
    named({"model": (nn.Module, path)})  # checks the file
    try:
        return from_file(lambda: made, path)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} has no weights of this model: {_in_words(error)}") from error


def candidates(names: list[str], weights: list[str], seed: int = 0) -> dict[str, Candidate]:
    """The candidates of ``rank`` by name.

    Args:
        names: each a model, or ``name=model``; a function may also return a dict of constructors.
        weights: each ``name=file``, or a file if there is one candidate.
        seed: of the random generators before a module is imported, which may hold a network.

    Raises:
        DataError: if there is no such model, two have one name, or weights belong to none.
    """
    found: dict[str, Candidate] = {}
    for given in names:
        own, model = _split(given)
        for name, one in _candidates(own, model, seed).items():
            if name in found:
                raise DataError(f"two candidates have the name {name!r}; name them, as in --model small={model}")
            found[name] = one
    for given in weights:
        own, path = _split(given)
        if own is None and len(found) > 1:
            raise DataError(f"--weights {given} is of which candidate? Write --weights name={given}")
        name = next(iter(found)) if own is None else own
        if name not in found:
            raise DataError(f"--weights {given} names no candidate{closest(name, found)}")
        if not callable(one := found[name]):
            raise DataError(f"--weights {given}: the candidate {name!r} has its own weights")
        found[name] = (one, path)
    return dict(named(found))


def largest(some: Mapping[str, Candidate]) -> float:
    """The number of parameters of the largest candidate; infinite if one is a pre-trained model, which is not loaded.

    A candidate that cannot be constructed counts 0.
    """
    sizes: list[float] = [0]
    with preserved_randomness():
        for one in some.values():
            if not callable(one):
                return math.inf
            try:
                sizes.append(sum(p.numel() for p in one().parameters()))
            except Exception:  # rank says which candidate failed, and why
                continue
    return max(sizes)


def _split(given: str) -> tuple[str | None, str]:
    """The name and the model of ``name=model``; no name if the text is a path that exists."""
    match = re.fullmatch(r"([^=:/\\]+)=(.+)", given)
    return (None, given) if match is None or Path(given).exists() else (match[1], match[2])


def _candidates(name: str | None, model: str, seed: int) -> dict[str, Candidate]:
    """The candidates that a text names, by their names: one, or those of a function that returns a dict."""
    if model.startswith(BUILT_IN):
        built_in, wanted = digits_candidates(), model.removeprefix(BUILT_IN)
        if wanted not in built_in:
            raise DataError(f"there is no built-in network {wanted!r}{closest(wanted, built_in)}")
        return {name or wanted: built_in[wanted]}
    if model.startswith(("hf:", "timm:")):
        return {name or model.partition(":")[2]: model}
    if Path(model).exists():
        return {name or Path(model).absolute().name: Path(model)}
    if ":" not in model:
        raise DataError(f"there is no model {model!r}: no such folder, and no module. A model is {FORMS}")
    found = imported(model, seed)
    several = _several(found)
    if several is not None:
        return {f"{name}-{key}" if name else str(key): one for key, one in several.items()}
    if isinstance(found, nn.Module):
        found = partial(copy.deepcopy, found)
    if not callable(found):
        raise DataError(f"{model} is an object of type {type(found).__name__}, not a network or a function")
    return {name or model.rpartition(":")[2]: found}


def _several(found: Any) -> Mapping[str, Any] | None:
    """The constructors that an object is, or returns, by name; None if it is a network or a constructor of one."""
    if isinstance(found, Mapping):
        return found
    if isinstance(found, type | nn.Module) or not callable(found):
        return None
    with preserved_randomness():
        try:
            made = found()
        except Exception:  # of a constructor that fails; whoever constructs the network says so
            return None
    return made if isinstance(made, Mapping) else None


def imported(name: str, seed: int = 0) -> Any:
    """The object that ``module:name`` or ``file.py:name`` names; modules of the working directory are found.

    Args:
        name: of the object.
        seed: of the random generators while the module is imported.

    Raises:
        DataError: if there is no such module or object, or importing the module fails.
    """
    module, _, attribute = name.rpartition(":")
    path, folder = Path(module), Path.cwd()
    if path.suffix == ".py":
        if not path.is_file():
            raise DataError(f"there is no file {path}")
        folder, module = path.absolute().parent, path.stem
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        with preserved_randomness():
            seed_generators(seed)
            found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise DataError(f"{module} cannot be imported: {_in_words(error)}") from error
        raise DataError(f"there is no module {module!r} in {folder}, and none is installed") from None
    except Exception as error:
        raise DataError(f"{module} cannot be imported: {_in_words(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            there = vars(found) if hasattr(found, "__dict__") else {}
            known = [one for one in there if not one.startswith("_") and not isinstance(there[one], ModuleType)]
            raise DataError(f"{module} has no {part!r}{closest(part, known)}")
        found = getattr(found, part)
    return found


def loss(name: str) -> Callable[[Any, Any], torch.Tensor]:
    """The loss that ``--loss`` names.

    Raises:
        DataError: if there is none.
    """
    if name in LOSSES:
        return LOSSES[name]
    if ":" not in name:
        raise DataError(f"there is no loss {name!r}{closest(name, LOSSES)}")
    found: Any = imported(name)
    made: Callable[[Any, Any], torch.Tensor] = found() if isinstance(found, type) else found
    check_loss(made)
    return made


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
