"""Files that are there whole or not at all."""

import hashlib
import os
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
