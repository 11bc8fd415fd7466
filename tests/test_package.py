import linegraph as lg


def test_every_public_name_resolves():
    assert all(hasattr(lg, name) for name in lg.__all__)
    assert sorted(lg.__all__) == lg.__all__


def test_public_names_are_documented():
    assert all(getattr(lg, name).__doc__ for name in lg.__all__)
