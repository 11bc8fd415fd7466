import getpass
import platform
from pathlib import Path, PurePosixPath

import torch

import linegraph as lg
from linegraph.report.environment import environment, private


def test_versions_are_named():
    found = environment()
    assert found["linegraph"] == lg.__version__
    assert found["torch"] == torch.__version__
    assert found["Python"].startswith(platform.python_version())


def test_no_host_user_or_folder_is_named():
    said = " ".join(environment().values())
    assert str(Path.home()) not in said
    assert "/" not in said
    for word in (platform.node(), getpass.getuser()):
        assert word not in said.split()


def test_paths_are_cut():
    assert private(PurePosixPath("/home/ada/nets/a.safetensors")) == "a.safetensors"
    assert private("/home/ada/nets/a.safetensors") == "a.safetensors"
    assert private(f"no file {Path.home() / 'a.npz'}").startswith("no file ~")
    assert private("features.0/conv") == "features.0/conv"
    assert private(3) == 3
