import math

from linegraph.functions import UsedModule, cells, global_variables, is_own, variables

FACTOR = 3


def scaled(x, power=2, *, shift=1):
    return FACTOR * x**power + shift


def of_closure(offset):
    def shifted(x):
        return scaled(x) + offset + math.pi

    return shifted


def test_variables_are_defaults_closures_and_globals():
    assert dict(variables(scaled)) == {"power": 2, "shift": 1, "FACTOR": 3}
    found = dict(variables(of_closure(5)))
    assert found == {"offset": 5, "scaled": scaled, "math": math}
    assert list(cells(of_closure(5))) == [("offset", 5)]


def test_globals_of_inner_functions_are_read_too():
    def outer():
        return [FACTOR for _ in range(2)], lambda: scaled(1)

    assert {name for name, _ in global_variables(outer)} == {"FACTOR", "scaled"}


def test_variables_that_are_not_assigned_yet_are_left_out():
    def early():
        return late

    assert list(cells(early)) == []
    late = 1
    assert list(cells(early)) == [("late", late)]


def test_of_a_module_of_the_users_own_the_names_used_count(monkeypatch):
    import tests.comparison as own

    def used():
        return own.close

    ((name, found),) = cells(used)
    assert (name, found) == ("own", own)
    monkeypatch.setitem(globals(), "helpers", own)

    def used_as_global():
        return helpers.close  # noqa: F821

    assert dict(global_variables(used_as_global)) == {"helpers": UsedModule(own, ("close", "helpers"))}


def test_functions_of_packages_are_not_the_users_own():
    import networkx

    assert is_own(scaled)
    assert not is_own(networkx.Graph.add_node)
