"""Files that are there whole or not at all."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from aebench.outs import Outs


def test_outs_appear_together_or_never(tmp_path):
    one, other = tmp_path / "a/one", tmp_path / "b/other"
    with pytest.raises(ValueError), Outs() as outs:
        outs.write(one, b"1")
        np.save(outs.open(other), np.ones(3))
        raise ValueError
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with Outs() as outs:
        outs.write(one, b"1")
        outs.write(one, b"begun anew")
        np.save(outs.open(other), np.ones(3))
    assert one.read_bytes() == b"begun anew" and np.load(other).sum() == 3


WRITER = """
import sys
from pathlib import Path
from aebench.outs import Outs

with Outs() as outs:
    file = outs.open(Path(sys.argv[1]))
    file.write(b"first ")
    file.flush()
    print("open", flush=True)
    sys.stdin.readline()
    file.write(b"second")
"""


def test_two_processes_that_write_one_file_at_once(tmp_path):
    path = tmp_path / "file"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", WRITER, path], **pipes)
    assert other.stdout.readline() == "open\n"
    with Outs() as outs:
        outs.write(path, b"whole")
    assert path.read_bytes() == b"whole"
    other.communicate("go on\n")
    assert other.returncode == 0 and path.read_bytes() == b"first second"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_of_a_file_is_removed_after_a_day(tmp_path):
    old, young, others = (tmp_path / f".{n}.part" for n in ("one.7", "one.8", "other.7"))
    for path in (old, young, others):
        path.write_bytes(b"half")
    for path in (old, others):
        os.utime(path, (0, 0))
    with Outs() as outs:
        outs.write(tmp_path / "one", b"1")
    assert {path.name for path in tmp_path.iterdir()} == {"one", young.name, others.name}
    with Outs(alone=True) as outs:
        outs.write(tmp_path / "one", b"1")
    assert {path.name for path in tmp_path.iterdir()} == {"one", others.name}


@pytest.mark.parametrize("array", [np.arange(7.0), np.ones((3, 0)), np.ones((4, 5)).T, np.int8(1)])
def test_a_hash_is_of_what_lies_in_the_file(tmp_path, array):
    path = tmp_path / "file.npy"
    with Outs() as outs:
        np.save(outs.open(path), array)
        found = outs.hash(path)
    assert found == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(np.load(path), array)


def test_a_folder_in_the_way_of_one_keeps_all_away(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(IsADirectoryError, match="other"), Outs() as outs:
        outs.write(tmp_path / "one", b"1")
        outs.write(tmp_path / "other", b"2")
    assert list(tmp_path.iterdir()) == [tmp_path / "other"]


def test_what_is_removed_goes_with_the_set(tmp_path):
    old, folder, link = tmp_path / "old", tmp_path / "folder", tmp_path / "link"
    old.touch()
    folder.mkdir()
    (folder / "file").touch()
    link.symlink_to(tmp_path)
    for fails in (True, False):
        with contextlib.suppress(ValueError), Outs() as outs:
            outs.write(tmp_path / "new", b"1")
            for path in (old, folder, link, tmp_path / "nosuch"):
                outs.remove(path)
            if fails:
                raise ValueError
        assert old.exists() == fails and folder.exists() == fails
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_between_two_renames_waits_for_the_last(tmp_path, monkeypatch):
    rename = os.replace

    def interrupted(*places):
        os.kill(os.getpid(), signal.SIGINT)
        rename(*places)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), Outs() as outs:
        for name in "abc":
            outs.write(tmp_path / name, b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_file_that_lost_its_end_is_not_put_in_its_place(tmp_path):
    """As on a disk that was full, which C's buffers did not tell."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"before")
    with pytest.raises(OSError, match="7 bytes were written") as error, Outs() as outs:
        outs.write(one, b"after")
        file = outs.open(other)
        file.write(b"content")
        file.flush()
        os.truncate(file.path, 3)
    assert error.value.filename == str(tmp_path)
    assert one.read_bytes() == b"before" and list(tmp_path.iterdir()) == [one]
