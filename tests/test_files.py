import pytest

from linegraph.files import safe_name, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    write_whole(path, lambda p: p.write_text("old"))

    def fails(p):
        p.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_stay_in_their_folder_and_apart():
    names = ["a", "a/b", "a_b", "../a", "..", "", "ä", "a b", "a_2fb", "a/64", "a\u2f64"]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert not any("/" in name or name.startswith("..") for name in safe)
