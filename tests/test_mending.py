"""What is told of a damaged file names the command that mends it: it is run as it is told."""

import contextlib
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from aebench.mending import is_whole, mending
from aebench.workspace import Workspace

PIPELINE = """\
stages:
  copy:
    cmd: cp in out; mkdir -p folder; cp in folder/part; echo more >> folder/part
    deps: [in]
    outs: [out, folder]
  next:
    cmd: cat out folder/part > end
    deps: [out, folder]
    outs: [end]
"""


def dvc(*arguments):
    """In this process: 0.1 s instead of 0.8."""
    from dvc.cli import main

    with warnings.catch_warnings(action="ignore"):  # of its libraries
        assert main([*arguments]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a tiny pipeline after `dvc repro`. Not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "in").write_text("0123456789\n" * 3)
    with contextlib.chdir(folder):
        dvc("init", "-q", "--no-scm")
        dvc("config", "core.analytics", "false")
        dvc("repro", "-q")
    return folder


@pytest.fixture
def copied(made, tmp_path, monkeypatch):
    """A copy of it, which we are in."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def damage(path):
    """Another bit, at the same time, with the same mode: as a disk does it."""
    state = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    path.chmod(state.st_mode)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def object_of(path):
    """The object of DVC's cache with the content of the file."""
    objects = Path(".dvc/cache/files/md5").glob("*/*")
    [found] = [found for found in objects if found.read_bytes() == path.read_bytes()]
    return found


def run(command):
    for part in command.split(" && "):
        if part.startswith("dvc "):
            dvc(*part.split()[1:], "-q")
        else:
            subprocess.run(part, shell=True, check=True)


@pytest.mark.parametrize("name", ["out", "folder/part"])
def test_the_told_command_mends_a_damaged_object(copied, name):
    path = copied / name
    good, found = path.read_bytes(), object_of(path)
    damage(found)
    path.unlink()
    dvc("checkout", "-q")
    assert path.read_bytes() != good  # DVC believes its cache ...
    dvc("repro", "-q", "-f", "-s", "copy")
    assert not is_whole(found)  # ... and keeps what is there
    text = mending(Workspace(), path)
    assert text and "\n" not in text and str(found) in text
    run(text.split("`")[1])
    assert path.read_bytes() == good and is_whole(found)
    path.unlink()
    dvc("checkout", "-q")
    assert path.read_bytes() == good


@pytest.mark.parametrize("name", ["out", "folder/part"])
def test_a_damaged_file_is_taken_from_the_cache(copied, name):
    path = copied / name
    good = path.read_bytes()
    dvc("status", "-q")  # remembers it by time, size and place
    damage(path)
    dvc("checkout", "-q")
    assert path.read_bytes() != good  # and so takes it for what it was
    text = mending(Workspace(), path)
    assert text and "repro" not in text
    run(text.split("`")[1])
    assert path.read_bytes() == good


def test_a_damaged_list_of_a_folder_is_named(copied):
    [found] = Path(".dvc/cache/files/md5").glob("*/*.dir")
    damage(found)
    text = mending(Workspace(), copied / "folder/part")
    assert text and str(found) in text
    run(text.split("`")[1])
    assert is_whole(found)


def test_what_the_cache_lacks_is_computed_again(copied):
    object_of(copied / "out").unlink()
    damage(copied / "out")
    text = mending(Workspace(), copied / "out")
    assert text and "does not have it" in text
    run(text.split("`")[1])
    assert (copied / "out").read_bytes() == (copied / "in").read_bytes()


def test_what_the_stage_wrote_wrong_is_computed_again(copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    text = mending(Workspace(Path("copy")), Path("copy/out"))
    assert text and "`cd copy && dvc repro -f -s copy && dvc repro`" in text
    damage(copied / "out")
    text = mending(Workspace(Path("copy")), Path("copy/out"))
    assert text and "`cd copy && rm -f out && dvc checkout out`" in text


def test_of_what_no_stage_writes_nothing_is_told(copied, tmp_path_factory):
    assert mending(Workspace(), copied / "in") is None
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert mending(Workspace(elsewhere), elsewhere / "in") is None
    (copied / "dvc.yaml").write_text("stages: [")
    assert mending(Workspace(), copied / "out") is None
