"""The registry of selection methods: what each reads, returns and costs, and which direction is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, NamedTuple

import pandas as pd

from linegraph.arguments import as_real, check_choice, check_type
from linegraph.errors import ArgumentTypeError, DataError

__all__ = [
    "METHODS",
    "RESULTS",
    "Method",
    "Score",
    "evaluated",
    "evaluated_together",
    "find_method",
    "register_method",
    "selection_methods",
]

ARGUMENTS = {
    "accuracy": "history",
    "loss": "history",
    "capacitance": "history",
    "initialisation": "model, loss_fn, data",
    "features": "features, labels",
    "source classes": "probabilities, labels",
    "other tasks": "name, results",
    "other candidates": "histories",
}
"""The arguments with which a method is called, by what it needs."""

RESULTS = ("score", "accuracy", "accuracy and std")

OTHER_COLUMNS = ("name", "final", "beta_eff", "error")
"""Columns of a ranking that are no methods."""


@dataclass(frozen=True)
class Method:
    """A selection method: a predictor of the final accuracy, or a score that only orders candidates.

    Attributes:
        name: the name by which :func:`~linegraph.rank` and :func:`~linegraph.predict_final` take it.
        function: what computes it; its arguments are those of :attr:`arguments`.
        higher_is_better: whether a candidate with a higher value is expected to reach a higher accuracy.
        needs: what it reads: "accuracy", "loss" and "capacitance" of the epochs seen; the network at "initialisation";
            the "features" before its last layer; the scores of the "source classes" of a pre-trained network; results
            on "other tasks"; the histories of the "other candidates" too.
        formula: its formula, in one line.
        source: where it was published.
        cost: forward and backward passes over the ``coupling_samples``, beyond the training that ``needs`` imply; for
            a method that reads the capacitance, those per epoch.
        gives: "score", a float that only orders; "accuracy", a tuple (mean, nan) in the unit of the accuracy;
            "accuracy and std", (mean, standard deviation).
    """

    name: str
    function: Callable[..., Any]
    higher_is_better: bool
    needs: frozenset[str]
    formula: str
    source: str
    cost: float
    gives: str = "score"

    @property
    def arguments(self) -> str:
        """The arguments of the function: "history", "model, loss_fn, data", "features, labels" and so on."""
        return ARGUMENTS[min(self.needs)]

    @property
    def predicts(self) -> bool:
        """Whether it gives an accuracy, and not a score that only orders."""
        return self.gives != "score"

    @property
    def is_initial(self) -> bool:
        """Whether it reads the network as it was constructed, and not its training."""
        return self.arguments not in ("history", "name, results", "histories")


class Score(NamedTuple):
    """The value of a method for one candidate.

    Attributes:
        value: a score, or the mean of a predictor; nan if there is none.
        std: the standard deviation of a predictor; nan if there is none.
        error: why there is no value; empty if there is one.
        seconds: the time of the evaluation.
    """

    value: float
    std: float
    error: str
    seconds: float


def evaluated(method: Method, arguments: Callable[[], Iterable[Any]]) -> Score:
    """The value of a method. Any error but ``KeyboardInterrupt`` is its reason for having none.

    Args:
        method: the method.
        arguments: a function that makes the arguments of its function.
    """
    start = perf_counter()
    try:
        found = method.function(*arguments())
        value, std = map(float, found) if method.predicts else (float(found), math.nan)
        error = "" if math.isfinite(value) else f"its value is {value}"
    except Exception as raised:
        value, std, error = math.nan, math.nan, f"{type(raised).__name__}: {raised}"
    return Score(math.nan if error else value, math.nan if error else std, error, perf_counter() - start)


def evaluated_together(method: Method, histories: Mapping[str, pd.DataFrame]) -> dict[str, Score]:
    """The values of a method that reads the histories of all candidates at once, by their names."""
    start, failure, values = perf_counter(), None, {}
    try:
        values = method.function(histories)
        if not isinstance(values, Mapping):
            raise DataError(
                f"the method {method.name!r} must return a dict of values by name, got a {type(values).__name__}"
            )
    except Exception as raised:
        failure = raised
    seconds = (perf_counter() - start) / max(len(histories), 1)

    def value_of(name: str) -> Any:
        if failure is not None:
            raise failure
        if name not in values:
            raise DataError(f"the method {method.name!r} gives no value for it")
        return values[name]

    of_one = replace(method, function=value_of)
    return {name: evaluated(of_one, lambda name=name: (name,))._replace(seconds=seconds) for name in histories}  # type: ignore[misc]


METHODS: dict[str, Method] = {}


def register_method(
    name: str,
    function: Callable[..., Any],
    *,
    needs: Iterable[str],
    higher_is_better: bool = True,
    gives: str = "score",
    formula: str = "",
    source: str = "",
    cost: float = 0.0,
) -> Method:
    """Add a selection method, so that :func:`~linegraph.rank` and :func:`~linegraph.predict_final` take it by name.

    Args:
        name: its name, the name of its column in a ranking.
        function: the function. What it takes follows from ``needs``: ``function(history)``, a DataFrame with one row
            per epoch, for "accuracy", "loss" and "capacitance"; ``function(model, loss_fn, data)``, the network as
            constructed and the first training samples, for "initialisation"; ``function(features, labels)``,
            tensors (N, F) and (N,), for "features"; ``function(probabilities, labels)``, (N, source classes) and (N,),
            for "source classes"; ``function(name, results)``, the name of the candidate and a DataFrame of results
            (names × tasks), for "other tasks"; ``function(histories)``, a dict of the DataFrames of all candidates by
            name, for "other candidates", which returns a dict of values by name. Where it has no value it raises a
            DataError that says why.
        needs: one or more of these words; all of them name the same arguments.
        higher_is_better: whether higher values are better.
        gives: "score", if the function returns a float that only orders; "accuracy" or "accuracy and std", if it
            returns a tuple (mean, standard deviation) in the unit of the accuracy, without or with an estimated
            standard deviation.
        formula: its formula, in one line.
        source: where it was published.
        cost: forward and backward passes over the samples that it reads, in addition to the training that it needs.

    Returns:
        The method. A method of the same name is replaced, unless it belongs to this package.

    Raises:
        ArgumentTypeError: if ``function`` is not callable, or another argument is of the wrong type.
        DataError: if ``needs`` is empty, has unknown words or words for different arguments, or the name is taken.

    Cost: none.

    Source: this package's own registry.

    Example:
        >>> import linegraph as lg
        >>> def gain(history):
        ...     return float(history["accuracy"].iloc[-1] - history["accuracy"].iloc[0])
        >>> _ = lg.register_method("gain", gain, needs=["accuracy"], formula="a_T - a_1")
        >>> "gain" in lg.selection_methods().index
        True
    """
    check_type("name", name, str, "a string, the name of the method")
    if not name or name in OTHER_COLUMNS or name.endswith("_std"):
        raise DataError(f"{name!r} cannot name a method: rankings have other columns of such names; choose another")
    if not callable(function):
        raise ArgumentTypeError(f"function must be callable, got an object of type {type(function).__name__}")
    check_type("higher_is_better", higher_is_better, bool, "True or False")
    check_choice("gives", gives, RESULTS)
    for what, text in (("formula", formula), ("source", source)):
        check_type(what, text, str, "a string")
    cost = as_real("cost", cost, 0)
    method = Method(name, function, higher_is_better, _needs(needs), formula, source, cost, gives)
    present = METHODS.get(name)
    if present is not None and present != method and _is_own(present):
        raise DataError(f"{name!r} is a method of linegraph; choose another name")
    METHODS[name] = method
    return method


def find_method(name: Any) -> Method:
    """The method of a name.

    Raises:
        DataError: if there is none; lists the names.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise DataError(f"unknown method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


def selection_methods() -> pd.DataFrame:
    """All selection methods: those of the package, and those added by :func:`register_method`.

    Returns:
        A DataFrame with one row per method, whose index is its name, and the columns ``formula``, ``source``,
        ``higher_is_better``, ``gives``, ``needs``, ``cost`` and ``arguments``, see :func:`register_method`.

    Cost: none.

    Source: that of each method is in its row.

    Example:
        >>> import linegraph as lg
        >>> lg.selection_methods().loc["last_loss", "needs"]
        'loss'
    """
    columns = ["formula", "source", "higher_is_better", "gives", "needs", "cost", "arguments"]
    rows = [
        [", ".join(sorted(m.needs)) if column == "needs" else getattr(m, column) for column in columns]
        for m in METHODS.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(METHODS), name="method"), columns=columns)


def _needs(given: Iterable[str]) -> frozenset[str]:
    check_type("needs", given, Iterable, "a list of words, such as ['accuracy']")
    words = [given] if isinstance(given, str) else list(given)
    for word in words:
        check_choice("each word of needs", word, ARGUMENTS)
    if len({ARGUMENTS[word] for word in words}) != 1:
        raise DataError(
            f"needs must be words for one kind of arguments, got {words}; 'accuracy', 'loss' and 'capacitance' go "
            "together, each other word stands alone"
        )
    return frozenset(words)


def _is_own(method: Method) -> bool:
    return str(getattr(method.function, "__module__", "")).startswith("linegraph.")
