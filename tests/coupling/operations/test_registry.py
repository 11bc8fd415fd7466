"""Every registered rule and decomposition, on a call of its own, by position and by keyword."""

from inspect import signature

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from linegraph.coupling.operations import check_rule, names
from linegraph.coupling.operations.decompositions import _DECOMPOSITIONS, decomposition
from linegraph.coupling.operations.names import describe, name_of
from linegraph.coupling.operations.rules import _BINDERS
from linegraph.coupling.operations.signatures import _TRANSLATIONS, _forms, in_one_form
from linegraph.coupling.operations.standardisation import NORMS_OF_WEIGHTS
from tests.comparison import close

SEEDED = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=SEEDED)


X, BATCH, IMAGE, V = normal(6, 4), normal(2, 5, 4), normal(2, 4, 6), normal(4)
INDEX = torch.tensor([[0, 2, 2], [1, 0, 4]])

PRODUCTS = [(1, [BATCH, normal(5, 4)]), (0, [normal(5, 1), BATCH])]
OF_MATRICES = [(1, [X, normal(4, 3)]), (0, [normal(3, 6), X])]
OF_STACKS = [(1, [BATCH, normal(2, 4, 3)]), (0, [normal(2, 3, 5), BATCH])]
OF_BOTH = [*OF_MATRICES, *OF_STACKS, (0, [normal(3, 4), V]), (1, [X, normal(2, 4, 3)]), (0, [normal(3, 5), BATCH])]
ADDED = [(2, [normal(6, 3), X, normal(4, 3)]), (1, [normal(3, 4), normal(3, 6), X])]
CONVOLVED = [1], [1], [1], False, [0], 1

REDUCED = [(0, [normal(2, 1, 3, 2), dim, kept]) for dim in (None, 1, -2, (0, 2), ()) for kept in (False, True)]

OF_RULES = {
    # By bare name: calls as lists of arguments by position, each with the place of the weight.
    "conv1d": [(1, [IMAGE, normal(6, 2, 3), normal(6), 2, 1, 1, 2]), (1, [IMAGE[0], normal(3, 4, 3), None, 1, "same"])],
    "conv2d": [(1, [normal(2, 2, 5, 4), normal(3, 2, 2, 2), normal(3), (2, 1), (0, 1), 1, 1])],
    "conv3d": [(1, [normal(1, 2, 3, 3, 3), normal(2, 2, 2, 1, 2), normal(2), 1, 0, 1, 1])],
    "conv_transpose1d": [(1, [IMAGE, normal(4, 3, 2), normal(6), 2, 1, 1, 2, 1])],
    "conv_transpose2d": [(1, [normal(2, 2, 3, 3), normal(2, 3, 2, 2), normal(3), 2, 0, 0, 1, 1])],
    "conv_transpose3d": [(1, [normal(1, 2, 2, 2, 2), normal(2, 1, 2, 2, 2), normal(1), 1, 0, 0, 1, 1])],
    "convolution": [(1, [IMAGE, normal(3, 4, 3), bias, *CONVOLVED]) for bias in (None, normal(3))],
    "mul": PRODUCTS,
    "multiply": PRODUCTS,
    "__mul__": PRODUCTS,
    "__rmul__": PRODUCTS,
    "layer_norm": [(2, [BATCH, [4], V, normal(4), 1e-3])],
    "rms_norm": [(2, [BATCH, [4], V, 1e-3])],
    "batch_norm": [(3, [IMAGE, normal(4), normal(4).square(), V, normal(4), False, 0.1, 1e-3])],
    "group_norm": [(2, [IMAGE, 2, V, normal(4), 1e-3])],
    "linear": [(1, [BATCH, normal(3, 4), normal(3)]), (1, [X, normal(3, 4)])],
    "inner": [(1, [BATCH, normal(3, 4)]), (0, [normal(3, 4), X])],
    "matmul": OF_BOTH,
    "linalg_matmul": OF_BOTH,
    "__matmul__": OF_BOTH,
    "mm": OF_MATRICES,
    "spmm": OF_MATRICES,
    "_sparse_mm": OF_MATRICES,
    "bmm": OF_STACKS,
    "mv": [(0, [normal(3, 4), V])],
    "addmv": [(1, [normal(3), normal(3, 4), V])],
    "addmm": ADDED,
    "_sparse_addmm": ADDED,
    "baddbmm": [(2, [normal(2, 5, 3), BATCH, normal(2, 4, 3)]), (1, [normal(2, 3, 4), normal(2, 3, 5), BATCH])],
    "sum": REDUCED,
    "mean": REDUCED,
    "embedding": [(1, [INDEX, normal(5, 3), 2])],
    "embedding_bag": [(1, [INDEX, normal(5, 3), None, None, 2.0, False, "sum", False, normal(2, 3), False, 4])],
}
OTHERWISE = {
    # By the full name, where functions of one bare name take other arguments.
    "torch.embedding": [(0, [normal(5, 3), INDEX, 2])],
}
BY_POSITION = {"__mul__", "__rmul__", "__matmul__"}


def calls(function, args):
    """The same call with its last arguments by keyword, for every number of them."""
    first = 1 if describe(function).startswith("torch.Tensor.") else 0
    forms = [] if name_of(function) in BY_POSITION else [f for f in _forms(function) if len(f.places) >= len(args)]
    for form in forms:
        for given in range(first, len(args)):
            yield args[:given], dict(zip(form.places[given:], args[given:], strict=False))


def accepted(function, args, kwargs):
    """Whether torch takes a call; the forms of a function may be those of overloads for other arguments."""
    try:
        function(*args, **kwargs)
    except (TypeError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("function", _BINDERS, ids=describe)
def test_rules(function):
    name = name_of(function)
    examples = OTHERWISE.get(describe(function)) or OF_RULES.get(name)
    assert examples, f"add a call of {describe(function)} to OF_RULES"
    for place, args in examples:
        check_rule(function, args, weight=args[place])
        named = [call for call in calls(function, args) if accepted(function, *call)]
        assert named or name in BY_POSITION, "no call by keyword"
        for given, kwargs in named:
            check_rule(function, given, kwargs, weight=args[place])


OF_DECOMPOSITIONS = {
    # By bare name: arguments by position.
    **{name: [X, 2 + X.square()] for name in ("__truediv__", "true_divide", "div", "divide")},
    **{name: [X] for name in ("neg", "negative", "__neg__")},
    "_weight_norm": [normal(3, 4), normal(3, 1), 0],
    "addbmm": [normal(5, 3), BATCH, normal(2, 4, 3)],
    "addcdiv": [X, normal(6, 1), 2 + X.square()],
    "addcmul": [normal(4), X, normal(6, 1)],
    "addr": [normal(6, 4), normal(6), V],
    "bilinear": [X, normal(6, 3), normal(2, 4, 3), normal(2)],
    "chain_matmul": [X, normal(4, 3), normal(3, 2)],
    "einsum": ["bij,jk->bik", BATCH, normal(4, 3)],
    **{name: [normal(3), V] for name in ("ger", "outer")},
    "pow": [X, 3],
    "tril": [X, -1],
    "triu": [X, 1],
    "masked_fill": [X, X > 1, 3.0],
    **{name: [X] for name in ("square", "abs", "absolute")},
    "native_layer_norm": [BATCH, [4], V, normal(4), 1e-3],
    "_fused_rms_norm": [BATCH, [4], V, 1e-3],
    "native_group_norm": [IMAGE, V, normal(4), 2, 4, 6, 2, 1e-3],
    "native_batch_norm": [IMAGE, V, normal(4), None, None, True, 0.1, 1e-3],
    "_native_batch_norm_legit": [IMAGE, V, normal(4), True, 0.1, 1e-3],
    "_native_batch_norm_legit_no_training": [IMAGE, V, normal(4), normal(4), normal(4).square(), 0.1, 1e-3],
    "_scaled_dot_product_attention_math": [BATCH, BATCH, BATCH],
    **{f"fft_{name}{suffix}": [BATCH] for name in ("fft", "ifft", "rfft", "irfft") for suffix in ("n", "2")},
    "glu": [X, 1],
    "kron": [X, normal(2, 3)],
    "lerp": [X, normal(6, 4), normal(6, 1)],
    "linalg_multi_dot": [[X, normal(4, 3), normal(3, 2)]],
    "linalg_vecdot": [X, normal(6, 4)],
    "linalg_vector_norm": [X, 3, 1, True],
    "prelu": [X, V],
    "std": [X, 0, True, True],
    "std_mean": [X, 0, True, True],
    "tensordot": [BATCH, normal(4, 3), 1],
    "var": [X, 0, True, True],
    "var_mean": [X, 0, True, True],
}
IN_OTHER_TESTS = {
    "instance_norm",  # torch and torch.nn.functional have functions of this name with other arguments
    "_grouped_mm",  # takes half precision only in some versions of torch
    *(f"{name}{cell}" for name in ("gru", "lstm", "rnn_relu", "rnn_tanh") for cell in ("", "_cell")),
}
HOMES = torch, Tensor, F, torch.special, torch.linalg, torch._C._linalg, torch.fft


def functions_named(name):
    """The functions of torch of a bare name."""
    tried = (
        getattr(home, part, None)
        for home in HOMES
        for part in (name, name.removeprefix("linalg_"), name.removeprefix("fft_"))
    )
    found = {id(f): f for f in tried if callable(f) and name_of(f) == name}
    return list(found.values())


@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")
@pytest.mark.parametrize("name", [name for name in _DECOMPOSITIONS if name not in IN_OTHER_TESTS])
def test_decompositions(name):
    assert name in OF_DECOMPOSITIONS, f"add a call of {name} to OF_DECOMPOSITIONS"
    args = OF_DECOMPOSITIONS[name]
    found = functions_named(name)
    assert found or name.startswith("__")  # some versions of torch have others
    for function in found:
        expected = function(*args)
        for given, kwargs in [(args, {}), *calls(function, args)]:
            if accepted(function, given, kwargs):
                _, placed, named = in_one_form(function, tuple(given), kwargs)
                parts = decomposition(function)(*placed, **named)
                for a, b in zip(*(t if isinstance(t, tuple) else (t,) for t in (parts, expected)), strict=True):
                    close(a, b)


CLASSES = {name: found for name in names.__all__ if isinstance(found := getattr(names, name), frozenset)}
OTHER_NAMES = {"H", "T", "mH", "mT", "real", "imag", "__getitem__", "__setitem__", "data"}


@pytest.mark.parametrize("of", CLASSES)
def test_keywords_of_all_functions_that_are_known_by_name(of):
    """Each argument arrives where its name says, and tensors arrive by position."""
    for function in (f for name in sorted(CLASSES[of] - OTHER_NAMES) for f in functions_named(name)):
        if function in _TRANSLATIONS:
            continue
        for form in _forms(function):
            if {"a", "b", "l", "n"} & set(form.places):  # of TorchScript
                continue
            values = {name: object() for name in form.places[: form.required]}
            for tensor in range(form.required):
                values[form.places[tensor]] = torch.zeros(tensor + 1)
                for given in range(form.required):
                    args = tuple(values[name] for name in form.places[:given])
                    kwargs = {name: values[name] for name in form.places[given : form.required]}
                    _, placed, named = in_one_form(function, args, kwargs)
                    assert [id(a) for a in placed] == [id(v) for v in values.values()], describe(function)
                    assert not named


def test_norms_of_weights_take_the_arguments_of_the_norms():
    for function, norm in NORMS_OF_WEIGHTS.items():
        own = list(signature(norm).parameters)
        places = [list(form.places) for form in _forms(function)]
        assert any(all(a == b for a, b in zip(own, given, strict=False)) for given in places), describe(function)
