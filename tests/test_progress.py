import sys
import threading
from types import SimpleNamespace

import pytest

from linegraph import progress


class Terminal:
    """A stderr that is a terminal, which keeps what is written."""

    def __init__(self):
        self.written = ""

    def write(self, text):
        self.written += text

    def flush(self):
        pass

    def isatty(self):
        return True


def terminal(monkeypatch):
    """Set stderr to a terminal, in the test itself: pytest sets stderr anew after fixtures."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def kernel(config):
    return SimpleNamespace(get_ipython=lambda: config and SimpleNamespace(config=config))


def test_a_terminal_is_watched_and_a_pipe_is_not(monkeypatch):
    stderr = terminal(monkeypatch)
    assert progress.is_watched()
    stderr.isatty = lambda: False
    assert not progress.is_watched()
    monkeypatch.setattr(sys, "stderr", None)  # of a program without a console
    assert not progress.is_watched()


def test_continuous_integration_is_not_watched(monkeypatch):
    terminal(monkeypatch)
    monkeypatch.setenv("CI", "true")
    assert not progress.is_watched()


@pytest.mark.parametrize(
    ("config", "watched"), [({"IPKernelApp": {}}, True), ({"TerminalIPythonApp": {}}, False), (None, False)]
)
def test_a_notebook_is_watched(monkeypatch, config, watched):
    stderr = terminal(monkeypatch)
    stderr.isatty = lambda: False
    monkeypatch.setitem(sys.modules, "IPython", kernel(config))
    assert progress.is_watched() is watched


def test_a_bar_counts_and_starts_no_thread(monkeypatch):
    stderr = terminal(monkeypatch)
    before = threading.active_count()
    with progress.counting(True, total=4, unit="epoch", mininterval=0) as bar:
        bar.set_description("net, epoch 3 of 4")
        bar.update(3)
        assert threading.active_count() == before
    assert "net, epoch 3 of 4:  75%" in stderr.written
    assert "3/4" in stderr.written
    assert list(progress.shown([1, 2], True)) == [1, 2]
    assert "2/2" in stderr.written


def test_without_progress_nothing_is_written(monkeypatch):
    stderr = terminal(monkeypatch)
    with progress.counting(False, total=4) as bar:
        bar.set_description("net")
        bar.update()
    assert list(progress.shown([1, 2], False)) == [1, 2]
    assert stderr.written == ""


def test_a_bar_that_nobody_asked_for_is_shown_where_a_user_sees_it(monkeypatch):
    stderr = terminal(monkeypatch)
    with progress.counting(None, total=4, mininterval=0) as bar:
        bar.update()
    assert "1/4" in stderr.written
    stderr = terminal(monkeypatch)
    monkeypatch.setenv("CI", "1")
    with progress.counting(None, total=4) as bar:
        bar.update()
    assert stderr.written == ""
