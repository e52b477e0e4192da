"""`aebench farm`: what it refuses, and a chain that a worker computes."""

import os
import shutil

import pytest

from aebench.farm import suites


@pytest.mark.slow
def test_a_chain_is_computed_by_a_worker(light):
    light.commit()
    (light / "notes.txt").write_text("not committed")
    before = light.run("git", "ls-files", "-s").stdout, light.run("git", "for-each-ref").stdout
    light.apart = True
    said = light.run("aebench", "farm", "--workers", "1").stdout
    assert "one 0: train, encode, knn: " in said and "all else came from the cache" in said
    assert light.stages("dvc", "repro") == {"plan"}
    assert light.rows()["one"]["status"] == "ok"
    after = light.run("git", "ls-files", "-s").stdout, light.run("git", "for-each-ref").stdout
    assert after == before
    assert not (light / ".aebench/farm").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tcp://127.0.0.1:1", "--workers", "2"], "a scheduler has its own workers"),
        (["--adapt", "0:4"], "--adapt is of a job queue"),
        (["--slurm", "queue.yaml"], "queue.yaml: No such file"),
        (["tcp://127.0.0.1:1"], "allowed: tcp://HOST:PORT, or tls://HOST:PORT"),
        (["--remote", "nowhere"], "allowed: one that DVC knows (none"),
        (["--remote", "http://here/store"], "allowed: any but http(s)"),
    ],
)
def test_what_is_refused(light, arguments, words, monkeypatch):
    monkeypatch.setattr("aebench.farm.clusters.WAIT", 1)
    done = light.run("aebench", "farm", *arguments, ok=False)
    assert words in done.stderr and done.stdout == ""


def test_what_dvc_would_trip_over_is_removed(tmp_path):
    runs = tmp_path / "runs"
    whole, left, begun = runs / "ab" / "whole", runs / "ab" / "left", runs / "cd" / "begun"
    for folder in (whole, left, begun):
        folder.mkdir(parents=True)
    (whole / "entry").touch()
    for folder in (whole, left):
        os.utime(folder, (0, 0))
    suites.sweep(str(tmp_path))
    assert [folder.exists() for folder in (whole, left, begun)] == [True, False, True]


def test_what_a_workspace_lacks(light):
    shutil.rmtree(light / ".dvc")
    assert "no DVC repository; `aebench init`" in light.run("aebench", "farm", ok=False).stderr
    shutil.rmtree(light / ".git")
    assert "not a git repository" in light.run("aebench", "farm", ok=False).stderr


@pytest.mark.parametrize(
    "arguments", [["--workers", "0"], ["--adapt", "4"], ["--slurm", "a", "--pbs", "b"]]
)
def test_what_is_no_option(light, arguments):
    assert "error: argument --" in light.run("aebench", "farm", *arguments, ok=False).stderr


def test_a_fault_of_the_plan_is_told_once(light):
    text = (light / "params.yaml").read_text()
    light.commit()
    (light / "params.yaml").write_text(text.replace("latent: 32", "latent: none"))
    done = light.run("aebench", "farm", ok=False)
    assert done.stderr.startswith("aebench: error: params.yaml: latent: got 'none'")
    assert len(done.stderr.splitlines()) == 1
    assert light.run("git", "status", "--short").stdout == " M params.yaml\n"
