import os
import subprocess
import sys

import pytest

from linegraph import files
from linegraph.files import remove_stale, safe_name, write_whole


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


NO_PROCESS = 2**22 + 1  # above the largest that Linux gives


def mark(host, process, name):
    return f".linegraph-{host}-{process}-{name}"


@pytest.mark.skipif(os.name != "posix", reason="asks for processes as POSIX does")
def test_only_what_dead_processes_left_is_removed(tmp_path):
    here, elsewhere = files._host(), "0" * 8
    kept = [
        mark(here, os.getpid(), "abc.json"),
        mark(here, 1, "abc.json"),
        mark(elsewhere, NO_PROCESS, "abc.json"),
        ".linegraph-notes-of-mine-.json",
        f".other-{here}-{NO_PROCESS}-abc.json",
        "table.json",
    ]
    removed = [mark(here, NO_PROCESS, "abc.json"), mark(here, 10**30, "a.safetensors"), mark(elsewhere, 7, "old.csv")]
    for name in kept + removed:
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / removed[-1], (0, 0))
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_is_not_there_has_nothing_to_remove(tmp_path):
    remove_stale(tmp_path / "none")


KILLED = """
import os, signal, sys
from pathlib import Path
from linegraph.files import write_whole
write_whole(Path(sys.argv[1]) / "table.csv", lambda path: (path.write_text("half"), os.kill(os.getpid(), 9)))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_write_that_was_killed_leaves_the_old_file_and_what_the_next_run_removes(tmp_path):
    (tmp_path / "table.csv").write_text("old")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    remove_stale(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
