"""The constructors of candidates: as they are given, or of models on disk and of models that a package names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from linegraph.coupling.model.data import batches
from linegraph.errors import ArgumentTypeError, DataError
from linegraph.files import LONGEST_NAME, safe_name
from linegraph.progress import is_watched
from linegraph.selection.probe import CapacitanceProbe

__all__ = [
    "Candidate",
    "Pretrained",
    "check_names",
    "constructors",
    "from_file",
    "loader",
    "named",
    "number_of_classes",
]

Constructor = Callable[[], nn.Module]
Candidate = Constructor | str | Path | tuple[Constructor, str | Path]

SPELLINGS = (
    "a constructor; 'hf:name', a model of transformers; 'timm:name', a model of timm; the folder of a model saved by "
    "save_pretrained; or a tuple (constructor, file of its weights)"
)
PICKLED = (".bin", ".ckpt", ".pt", ".pth")


def named(candidates: Any) -> dict[str, Candidate]:
    """The candidates by name; those of a list are named after their models or folders.

    Raises:
        ArgumentTypeError: if they are neither a dict nor a list of models that have names.
        DataError: if there is none, or two have one name.
    """
    if isinstance(candidates, Mapping):
        found = dict(candidates)
    elif isinstance(candidates, (list, tuple)):
        found = {}
        for one in candidates:
            if not isinstance(one, (str, Path)):
                raise ArgumentTypeError(
                    f"a list of candidates has strings and paths, not objects of type {type(one).__name__}; pass a "
                    "dict of constructors by name, such as {'mlp': lambda: MLP()}"
                )
            name = _name_of(one)
            if name in found:
                raise DataError(
                    f"the candidates {str(found[name])!r} and {str(one)!r} have one name, {name!r}; pass a dict of "
                    "candidates by name"
                )
            found[name] = one
    else:
        raise ArgumentTypeError(
            "candidates must be a dict of constructors by name, such as {'mlp': lambda: MLP()}, or a list of models, "
            f"such as ['timm:resnet18'], got an object of type {type(candidates).__name__}"
        )
    if not found:
        raise DataError("rank needs at least one candidate")
    for name, one in found.items():
        _check(name, one)
    return found


def constructors(candidates: Mapping[str, Candidate], count_classes: Callable[[], int]) -> dict[str, Constructor]:
    """The constructors of some candidates.

    Args:
        candidates: what :func:`named` returns.
        count_classes: returns the number of classes of the task; called if a candidate is a pre-trained model.
    """
    loads = {name: load for name, one in candidates.items() if (load := loader(one)) is not None}
    classes = count_classes() if loads else 0
    return {
        name: Pretrained(loads[name], classes) if name in loads else one  # type: ignore[misc]
        for name, one in candidates.items()
    }


@dataclass(frozen=True)
class Pretrained:
    """Constructs a :class:`CapacitanceProbe` on a frozen pre-trained model.

    Attributes:
        load: loads the model.
        num_classes: the number of classes of the task.
    """

    load: Constructor
    num_classes: int

    def __call__(self) -> nn.Module:
        """A new probe; its head has random weights."""
        model = self.load().to(torch.get_default_dtype())
        return CapacitanceProbe(model, None, self.num_classes)


def number_of_classes(train: Any, ignored: int) -> int:
    """The number of classes in training targets, (N,) indices or (N, classes) probabilities.

    Args:
        train: a pair or batches of them; they are read once.
        ignored: the index that the loss ignores.

    Raises:
        DataError: if the targets are others, or there are fewer than two classes.
    """
    classes = 0
    for _, targets in batches(train):
        if isinstance(targets, Tensor) and targets.ndim == 2 and targets.dtype.is_floating_point:
            classes = max(classes, targets.shape[1])
        elif isinstance(targets, Tensor) and targets.ndim == 1 and not targets.dtype.is_floating_point:
            classes = max(classes, _largest(targets[targets != ignored]) + 1)
        else:
            raise DataError(
                "candidates that are pre-trained models get a head with one score for each class, and the targets of "
                f"train, {tuple(getattr(targets, 'shape', ()))}, are no class indices (N,) or probabilities "
                "(N, classes); pass constructors with a head of your own"
            )
    if classes < 2:
        raise DataError(
            f"train has targets of {classes} class; a head for candidates that are pre-trained models needs two"
        )
    return classes


def _largest(indices: Tensor) -> int:
    return int(indices.max()) if len(indices) else -1


def _name_of(one: str | Path) -> str:
    for prefix in PACKAGES:
        if isinstance(one, str) and one.startswith(prefix):
            return one.removeprefix(prefix)
    return Path(one).absolute().name


def _check(name: Any, one: Any) -> None:
    """Refuse a candidate that cannot be constructed, before any is trained."""
    if isinstance(one, tuple):
        if len(one) != 2 or isinstance(one[0], nn.Module) or not callable(one[0]):
            raise ArgumentTypeError(f"candidate {name!r} is a tuple, but not (constructor, file of its weights)")
        _check_file(name, one[1])
    elif isinstance(one, str) and one.startswith(tuple(PACKAGES)):
        prefix = next(prefix for prefix in PACKAGES if one.startswith(prefix))
        if not one.removeprefix(prefix):
            raise DataError(f"candidate {name!r} names no model after {prefix!r}")
        _check_package(name, PACKAGES[prefix][0])
    elif isinstance(one, (str, Path)):
        _check_folder(name, Path(one))
        _check_package(name, "transformers")
    elif isinstance(one, nn.Module) or not callable(one):
        advice = "; of a model that is there already, pass lambda: copy.deepcopy(model)"
        raise ArgumentTypeError(
            f"candidate {name!r} is a {type(one).__name__}, not {SPELLINGS}"
            + (advice if isinstance(one, nn.Module) else "")
        )


def _check_folder(name: Any, path: Path) -> None:
    if path.is_file():
        raise DataError(
            f"candidate {name!r} is a file, {path}; the network that its weights belong to is needed too: pass "
            "(constructor, path)"
        )
    if not path.is_dir():
        raise DataError(f"candidate {name!r}: there is no folder {path}. A candidate is {SPELLINGS}")
    if not (path / "config.json").is_file():
        raise DataError(f"candidate {name!r}: {path} has no config.json; model.save_pretrained(folder) writes one")
    if next(path.glob("*.safetensors"), None) is None:
        raise DataError(
            f"candidate {name!r}: {path} has no weights in .safetensors, and pickled ones are not read; "
            "model.save_pretrained(folder) writes them"
        )


def _check_file(name: Any, path: Any) -> None:
    if not isinstance(path, (str, Path)):
        raise ArgumentTypeError(
            f"candidate {name!r}: the file of the weights is a {type(path).__name__}, not a str or pathlib.Path"
        )
    if not Path(path).is_file():
        raise DataError(f"candidate {name!r}: there is no file {path}")
    if Path(path).suffix not in (".safetensors", *PICKLED):
        raise DataError(
            f"candidate {name!r}: {path} is no file of weights that is known; there are .safetensors and, of "
            f"torch.save(model.state_dict(), path), {', '.join(PICKLED)}"
        )


def _check_package(name: Any, package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise DataError(
            f"candidate {name!r} needs {package}, which cannot be imported ({error}); pip install {package}"
        ) from None


def loader(one: Candidate) -> Constructor | None:
    """The function that loads a pre-trained model; None of a constructor. Paths do not depend on the folder."""
    if isinstance(one, tuple):
        return partial(from_file, one[0], Path(one[1]).absolute())
    if isinstance(one, str) and (prefix := next((p for p in PACKAGES if one.startswith(p)), None)):
        return partial(PACKAGES[prefix][1], one.removeprefix(prefix))
    if isinstance(one, (str, Path)):
        return partial(_of_transformers, str(Path(one).absolute()))
    return None


def _of_transformers(name: str) -> nn.Module:
    """A model of transformers by its name or folder, with its classifier if it has one; none of its own code is run."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    written = (getattr(config, "architectures", None) or [""])[0]
    tasks = ("ForImageClassification", "ForSequenceClassification", "ForAudioClassification")
    task = next((task for task in tasks if written.endswith(task)), "")
    automatic: Any = getattr(transformers, f"AutoModel{task}")
    with _bars_if_watched():
        model: nn.Module = automatic.from_pretrained(name, config=config, use_safetensors=True, trust_remote_code=False)
    return model


@contextmanager
def _bars_if_watched() -> Iterator[None]:
    """A context in which transformers shows no progress bar where nobody sees it."""
    from transformers.utils import logging

    hidden = logging.is_progress_bar_enabled() and not is_watched()
    if hidden:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if hidden:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _of_timm(name: str) -> nn.Module:
    timm: Any = importlib.import_module("timm")
    model: nn.Module = timm.create_model(name, pretrained=True)
    return model


PACKAGES: dict[str, tuple[str, Callable[[str], nn.Module]]] = {
    "hf:": ("transformers", _of_transformers),
    "timm:": ("timm", _of_timm),
}
"""The prefix of a model's name, the package that has the model, and the function that loads it."""


def from_file(make: Constructor, path: Path) -> nn.Module:
    """A model with the weights of a file. Nothing else is unpickled than tensors."""
    model = make()
    if path.suffix == ".safetensors":
        weights = load_file(path)
    else:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(weights, Mapping) or not all(isinstance(one, Tensor) for one in weights.values()):
        raise DataError(
            f"{path} does not hold tensors by name; write them by torch.save(model.state_dict(), path), or by "
            "safetensors.torch.save_file(model.state_dict(), path)"
        )
    model.load_state_dict(weights)
    return model


def check_names(names: Iterable[Any], directory: Path | None) -> None:
    """Refuse names that no file can have, before anything is trained.

    Raises:
        DataError: names the name.
    """
    folded: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"the name {name!r} of a candidate is a {type(name).__name__}; names are strings")
        if not name or not _is_text(name):
            raise DataError(f"{name!r} names no candidate; names are strings of one or more characters")
        if directory is None:
            continue
        if len(safe_name(name)) > LONGEST_NAME:
            raise DataError(
                f"the name {name[:40]!r}... of a candidate is too long for a file in {directory}: "
                f"{len(safe_name(name))} bytes, at most {LONGEST_NAME}; shorten it"
            )
        if (other := folded.setdefault(name.casefold(), name)) != name:
            raise DataError(
                f"the candidates {other!r} and {name!r} differ in case alone, and some file systems do not tell their "
                f"files in {directory} apart; rename one"
            )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name
