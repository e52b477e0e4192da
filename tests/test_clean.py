"""`aebench clean` removes what nothing refers to, and nothing else."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import pytest
from conftest import SMALL, Workspace

# As the real one, but a stage copies the settings that it depends on.
PIPELINE = """\
stages:
  prepare:
    cmd: mkdir -p data/prepared; cp data.txt data/prepared/images; echo 1 > data/prepared/labels
    deps: [data.txt]
    outs: [data/prepared]
  train:
    matrix:
      run: ${runs}
      seed: ${seeds}
    cmd: >-
      d=${item.run}/${item.seed}; mkdir -p runs/$d results/$d;
      echo $d ${latent} > runs/$d/weights.safetensors;
      echo $d ${latent} `date +%N` > results/$d/train.json
    deps:
      - data/prepared
    params:
      - latent
    outs:
      - runs/${item.run}/${item.seed}/weights.safetensors
      - results/${item.run}/${item.seed}/train.json
"""
PARAMS = SMALL[: SMALL.index("runs:")] + "runs:\n  one:\n    model: mlp\n"
IGNORED = "/data/prepared\n/runs\n/results\n"


class Small(Workspace):
    """A workspace whose stages take no time, and DVC run in this process: 0.3 s instead of 1."""

    def dvc(self, *arguments: str, ok: bool = True) -> None:
        from dvc.cli import main

        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.env),
            warnings.catch_warnings(action="ignore"),
        ):
            assert (main([*arguments, "-q"]) == 0) == ok

    def clean(self, *arguments: str, ok: bool = True) -> str:
        done = self.run("aebench", "clean", *arguments, ok=ok)
        return done.stdout + done.stderr

    def contents(self) -> dict[str, str]:
        """File -> content, of what stages write."""
        tops = [self / top for top in ("runs", "results", "data")]
        files = [path for top in tops for path in top.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_text() for path in files}

    def objects(self) -> list[Path]:
        return [p for p in (self / ".dvc/cache/files").rglob("*") if p.is_file()]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """One run, computed and committed. Not to be changed: copy it."""
    workspace = Small(tmp_path_factory.mktemp("first") / "workspace")
    (workspace / ".dvc").mkdir(parents=True)
    (workspace / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = true\n")
    (workspace / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    for name, content in {
        "dvc.yaml": PIPELINE,
        "params.yaml": PARAMS,
        "data.txt": "images\n",
        ".gitignore": IGNORED,
    }.items():
        (workspace / name).write_text(content)
    workspace.run("git", "init", "-q")
    workspace.dvc("repro")
    workspace.commit()
    return workspace


@pytest.fixture
def small(first, tmp_path):
    shutil.copytree(first.folder, tmp_path / "workspace")
    return Small(tmp_path / "workspace")


def test_nothing_is_left_over_of_a_committed_workspace(small):
    assert small.clean().splitlines() == ["nothing is left over"]


def test_everything_that_is_referred_to_can_still_be_had(small):
    states = {}

    def keep(revision):
        states[revision] = small.contents()

    keep(small.run("git", "rev-parse", "HEAD").stdout.strip())
    small.params(latent=10, runs={"one": {"model": "mlp"}, "two": {"model": "mlp"}})
    small.dvc("repro")
    small.commit()
    keep(small.run("git", "rev-parse", "HEAD").stdout.strip())
    # An older stash stands in a reflog alone. Of other lengths: of files written in one second git
    # and DVC's autostage see no other difference.
    for latent in (110, 1200):
        small.params(latent=latent)
        small.dvc("repro")
        stashed = small.contents()
        small.run("git", "stash")
        keep(small.run("git", "rev-parse", "stash").stdout.strip())
        assert stashed == small.contents()
    small.dvc("exp", "run", "-S", "latent=13", "-n", "mine")
    keep("mine")
    small.run("git", "reset", "--hard", "-q")
    small.params(latent=20)  # of no commit
    small.dvc("repro")
    lost = small.contents()
    small.params(latent=10, runs={"one": {"model": "mlp"}})  # without `two`
    small.dvc("repro")
    small.dvc("repro", "-f", "-s", "train@one-0")  # another result of the same settings
    before = small.contents()
    listed = small.clean()
    assert small.contents() == before
    assert "two, not in params.yaml" in listed
    assert "DVC's cache: one" in listed and "DVC's cache: two" in listed
    assert "removed" in small.clean("--yes")
    assert small.clean().splitlines() == ["nothing is left over"]
    kept = {name: text for name, text in before.items() if "/two/" not in name}
    small.dvc("repro")
    assert small.contents() == kept  # nothing ran: each result has its time
    cached = [path.read_text() for path in small.objects()]
    assert not {t for n, t in lost.items() if n.startswith("results")} & set(cached)
    small.run("git", "stash")
    for revision, content in states.items():
        if revision == "mine":
            small.dvc("exp", "apply", revision)
        else:
            small.run("git", "checkout", "-q", revision)
        shutil.rmtree(small / "runs", ignore_errors=True)
        shutil.rmtree(small / "results", ignore_errors=True)
        small.dvc("checkout")
        assert small.contents() == content, revision
        small.dvc("repro")
        assert small.contents() == content, revision
        small.run("git", "reset", "--hard", "-q")


def leave_something(small):
    """An object that nothing refers to."""
    name = hashlib.md5(b"nobody's").hexdigest()
    path = small / ".dvc/cache/files/md5" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"nobody's")


def test_a_result_whose_files_are_gone_hides_no_older_one(small):
    small.dvc("repro", "-f", "-s", "train@one-0")
    small.run("git", "checkout", "-q", "HEAD", "--", "dvc.lock")
    small.dvc("checkout", "-f")
    assert "run-cache" in small.clean("--yes")
    before = small.contents()
    (small / "dvc.lock").unlink()
    small.dvc("repro")
    assert small.contents() == before  # restored, with its time


def test_what_the_user_put_there_is_named_and_stays(small):
    small.params(runs={"two": {"model": "mlp"}})
    for name in ("runs/one/notes.md", "results/one/0/figure.png", "runs/two/9/mine.txt"):
        (small / name).parent.mkdir(parents=True, exist_ok=True)
        (small / name).write_text("mine")
    (small / "runs/one/link").symlink_to(small / "plugins")
    listed = small.clean("--yes")
    assert all(name in listed for name in ("runs/one/notes.md", "figure.png", "mine.txt", "link"))
    assert "a commit has the same" in listed
    assert sorted(small.contents()) == [
        "data/prepared/images",
        "data/prepared/labels",
        "results/one/0/figure.png",
        "runs/one/notes.md",
        "runs/two/9/mine.txt",
    ]
    assert (small / "runs/one/link").is_symlink()


def test_what_killed_writers_left_is_removed_after_a_day(small):
    old, young = small / "runs/one/0/.a.npy.12ab.part", small / "results/.b.json.34cd.part"
    for path in (old, young):
        path.write_text("half")
    day_ago = time.time() - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    assert "killed" in small.clean("--yes")
    assert not old.exists() and young.exists()


def test_checkpoints_that_no_plan_goes_on_from_are_removed(small):
    plan = small / "plan/one/train.json"
    plan.parent.mkdir(parents=True)
    plan.write_text("{}\n")
    folder = small / ".aebench/checkpoints"
    folder.mkdir(parents=True)
    kept = folder / f"{hashlib.sha256(b'{}' + bytes([10])).hexdigest()[:24]}-1.safetensors"
    for path in (kept, folder / f"{'0' * 24}-1.safetensors"):
        path.write_bytes(b"1")
    assert "checkpoints of no plan" in small.clean("--yes")
    assert list(folder.iterdir()) == [kept]


def unreadable(small):
    (small / "dvc.yaml").write_text("stages: [")
    small.commit()
    small.run("git", "revert", "--no-edit", "HEAD")
    return "cannot be read"


def shallow(small):
    head = small.run("git", "rev-parse", "HEAD").stdout
    (small / ".git/shallow").write_text(head)
    return "git fetch --unshallow"


def outside(small):
    shutil.move(small / ".dvc/cache", small.folder.parent / "cache")
    small.dvc("cache", "dir", "--local", str(small.folder.parent / "cache"))
    return "others may use it"


def linked(small):
    shutil.move(small / ".dvc/cache", small.folder.parent / "cache")
    (small / ".dvc/cache").symlink_to(small.folder.parent / "cache")
    return "others may use it"


def shared(small):
    small.dvc("config", "--local", "cache.shared", "group")
    return "is shared"


def experiment(small):
    (small / ".dvc/tmp/exps/standalone/tmp123/.git").mkdir(parents=True)
    return "an experiment runs in"


def hidden_commits(small):
    small.dvc("config", "--local", "core.no_scm", "true")
    return "core.no_scm"


def damaged_list(small):
    [found] = (small / ".dvc/cache/files/md5").rglob("*.dir")
    found.chmod(0o644)
    found.write_text(found.read_text()[:-9])
    found.chmod(0o444)
    return "is damaged"


@pytest.mark.parametrize(
    "change",
    [unreadable, shallow, outside, linked, shared, experiment, hidden_commits, damaged_list],
)
def test_the_cache_is_not_touched_where_something_may_need_it(small, change):
    leave_something(small)
    reason = change(small)
    cache = (small / ".dvc/cache").resolve()
    cache = cache if cache.exists() else small.folder.parent / "cache"
    before = sorted(cache.rglob("*"))
    (small / "runs/gone/0").mkdir(parents=True)
    (small / "runs/gone/0/weights.safetensors").write_text("x")
    listed = small.clean("--yes")
    assert "DVC's cache is not touched: " in listed and reason in listed
    assert sorted(cache.rglob("*")) == before
    assert not (small / "runs/gone").exists()


def test_without_git_the_workspace_alone_counts(small):
    shutil.rmtree(small / ".git")
    small.dvc("config", "core.no_scm", "true", "--local")
    leave_something(small)
    before = small.contents()
    assert "removed" in small.clean("--yes")
    shutil.rmtree(small / "runs")
    small.dvc("checkout")
    assert small.contents() == before


def test_params_with_a_fault_remove_nothing(small):
    (small / "params.yaml").write_text((small / "params.yaml").read_text().replace("mlp", "[]"))
    before = small.contents()
    assert "nothing was removed" in small.clean("--yes", ok=False)
    assert small.contents() == before


def test_a_pipeline_that_cannot_be_read_is_told(small):
    (small / "dvc.yaml").write_text("stages: [")
    before = small.contents()
    told = small.clean("--yes", ok=False)
    assert "the workspace" in told and len(told.splitlines()) == 1
    assert small.contents() == before


def test_a_dvc_that_works_is_waited_for(small, monkeypatch):
    monkeypatch.setattr("aebench.holder.PATIENCE", 0.1)
    code = (
        "import sys, zc.lockfile as z; x = z.LockFile(sys.argv[1]); print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(small / ".dvc/tmp/lock"), "dvc", "repro"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline()
        assert "`dvc repro` (process" in small.clean("--yes", ok=False)
        process.communicate("\n")
