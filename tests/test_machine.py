"""Machines that lack or limit something: each stage works, or says in a line what failed."""

import contextlib
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from unittest.mock import Mock

import psutil
import pytest
from conftest import LIGHT

from aebench import timing

STAGES = ("plan", "prepare", "train", "encode", "knn", "report")
linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


def command(verb):
    return "aebench", verb, *(("one", "0") if verb in ("train", "encode", "knn") else ())


def run_until(workspace, verb):
    for earlier in STAGES[: STAGES.index(verb)]:
        workspace.run(*command(earlier))


FAULTY = """\
import os
from torch import nn
from aebench import hookimpl

def missing():
    open("nowhere")

def full():
    with open("/dev/full", "wb", 0) as file:
        file.write(b"x")

def hidden():
    try:
        full()
    except OSError:
        raise ValueError("no data") from None

def memory():
    bytearray(1 << 62)

def odd():
    class Odd(Exception):
        def __str__(self):
            raise TypeError
    raise Odd

def text():
    raise ValueError("\\ud800\\x1b[31m\\0" + "long " * 100_000)

def deep():
    deep()

class Faulty(nn.Module):
    def __init__(self, shape, latent, place, what):
        super().__init__()
        self.place, self.what = place, globals()[what]
        self.there("build")
        pixels = shape[0] * shape[1] * shape[2]
        outer = self
        class Decoder(nn.Sequential):
            def forward(self, codes):
                outer.there("decoder")
                return super().forward(codes)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
        self.decoder = Decoder(nn.Linear(latent, pixels), nn.Unflatten(1, shape))

    def there(self, place):
        if place == self.place:
            self.what()

    def loss(self, images):
        self.there("loss")
        return (self.decoder(self.encoder(images)) - images).square().mean()

def build(shape, latent, place="", what="missing"):
    return Faulty(shape, latent, place, what)

@hookimpl
def register_models(register):
    register("faulty", build)
"""


@linux
def test_what_fails_in_a_models_code_is_told_by_what_failed(light):
    (light / "plugins/faulty.py").write_text(FAULTY)
    kinds = {
        "missing": "failed: FileNotFoundError: [Errno 2] No such file or directory: 'nowhere' "
        "(faulty.py:6)",
        "odd": "failed: Odd: no message (faulty.py:25)",
        "text": r"failed: ValueError: \ud800\x1b[31m\x00long long ",
        "deep": "failed: RecursionError: maximum recursion depth exceeded",
    }
    machines = {
        "full": "OSError: [Errno 28] No space left on device (faulty.py:10); nothing was written; "
        "make room there",
        "hidden": "OSError: [Errno 28] No space left on device (faulty.py:10); nothing was",
        "memory": "MemoryError: no message (faulty.py:19); nothing was written; free some memory",
    }
    cases = [("build", what) for what in (*kinds, *machines)]  # which train nothing
    cases += [("loss", "full"), ("decoder", "missing")]
    light.params(
        runs={
            f"{place}-{what}": {"model": "faulty", "latent": 4, "place": place, "what": what}
            for place, what in cases
        }
    )
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    for place, what in cases:
        run = f"{place}-{what}"
        done = light.run("aebench", "train", run, "0", ok=what in kinds)
        written = light / f"results/{run}/0/train.json"
        if what in kinds:
            status = json.loads(written.read_bytes())["status"]
            assert status.startswith(kinds[what]) and len(status) < 1100 and status.isprintable()
        else:
            start = "aebench: error: train: the machine failed, not the model: "
            assert done.stderr.startswith(start + machines[what]), done.stderr
            assert done.stderr.count("\n") == 1 and not written.exists()


def test_interrupted_model_is_no_row_whatever_it_makes_of_it(light):
    text = LIGHT.replace("    from torch import nn\n", TURNED)
    assert text != LIGHT
    (light / "plugins/light.py").write_text(text)
    run_until(light, "train")
    assert light.run(*command("train"), ok=False).returncode == 130
    assert not (light / "results/one/0/train.json").exists()


TURNED = """\
    from torch import nn
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise RuntimeError("stopped") from None
"""


def test_data_set_that_the_machine_does_not_let_be_loaded(light):
    plugin = (light / "plugins/digits.py").read_text()
    body = "    with open('/dev/full', 'wb', 0) as file:\n        file.write(b'x')\n"
    start = plugin.index("def load(")
    place = plugin.index("\n", start) + 1
    (light / "plugins/digits.py").write_text(plugin[:place] + body + plugin[place:])
    light.run("aebench", "plan")
    done = light.run("aebench", "prepare", ok=False)
    assert done.stderr.startswith("aebench: error: prepare: the machine failed, not the model: ")
    assert "(digits.py:" in done.stderr and "make room there" in done.stderr


def test_plugin_that_the_machine_does_not_let_be_imported(light):
    (light / "plugins/light.py").write_text("bytearray(1 << 62)\n" + LIGHT)
    done = light.run("aebench", "plan", ok=False)
    told = (
        "not loaded: plugins/light.py: the machine failed, not the model: MemoryError: no message"
    )
    assert f"{told} (light.py:1); free some memory" in done.stderr


@linux
def test_installation_that_cannot_be_loaded_is_a_line(light, monkeypatch):
    run_until(light, "knn")
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "aebench.evaluation.search", raising=False)
    monkeypatch.delitem(sys.modules, "aebench.evaluation.panel", raising=False)
    done = light.run(*command("knn"), ok=False)
    assert done.stderr.startswith("aebench: error: knn: ModuleNotFoundError: ")
    assert "mend the installation" in done.stderr and done.stderr.count("\n") == 1


@linux
def test_no_proc(light, monkeypatch, tmp_path):
    run_until(light, "train")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr(timing, "TASKS", tmp_path / "nowhere")
    monkeypatch.setattr(psutil, "getloadavg", Mock(side_effect=FileNotFoundError))
    light.run(*command("train"))
    found = json.loads((light / "results/one/0/train.json").read_bytes())["timing"]
    unknown = "waited_share", "others_share", "load_average", "contended"
    assert [found[name] for name in unknown] == [None] * 4 and found["cpu_seconds"] > 0


@pytest.mark.parametrize("given", [None, "~/data"])
def test_no_home(light, given, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "AEBENCH_DATA"):
        monkeypatch.delenv(name, raising=False)
        light.env.pop(name, None)
    monkeypatch.setattr("pwd.getpwuid", Mock(side_effect=KeyError))
    light.env |= {"AEBENCH_DATA": given} if given else {}
    done = light.run("aebench", "plan", ok=False)
    words = "there is no home folder to keep data sets in; set AEBENCH_DATA to an absolute path"
    assert done.stderr.splitlines()[0] == f"aebench: error: {words}"
    light.env["AEBENCH_DATA"] = str(light.folder / "data")
    light.run("aebench", "plan")


@pytest.mark.slow
def test_clock_that_goes_back(light, monkeypatch):
    """Durations are of another clock; what the files say of their age decides nothing."""
    times = itertools.count(2_000_000_000, -40_000_000)
    monkeypatch.setattr("time.time", lambda: float(next(times)))
    run_until(light, "encode")
    found = json.loads((light / "results/one/0/train.json").read_bytes())
    assert 0 < found["train_seconds"] < found["provenance"]["stage_seconds"] < 100
    future = time.time_ns() + 10**18
    for path in (light / "plan").rglob("*.json"):
        os.utime(path, ns=(future, future))
    for verb in STAGES[3:]:
        light.run(*command(verb))
    assert light.rows()["one"]["status"] == "ok"


@contextlib.contextmanager
def small(folder):
    """A tmpfs without a free byte in place of the folder, with its content."""
    kept = folder.parent.with_name(f"kept-{folder.name}")
    folder.mkdir(exist_ok=True)
    shutil.copytree(folder, kept, symlinks=True, dirs_exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        with contextlib.suppress(OSError), (folder / "filler").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))
        yield
    finally:
        # Lazily: a mapped file is open until its pages are collected.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


WRITTEN = {
    "plan": ["plan"],
    "prepare": ["data", "results"],
    "train": ["runs", "results"],
    "encode": ["runs", "results"],
    "knn": ["results"],
    "report": ["reports"],
}


@pytest.mark.slow
def test_full_disk_below_each_folder(light):
    for verb, names in WRITTEN.items():
        for name in names:
            before = files(light.folder)
            with small(light / name):
                done = light.run(*command(verb), ok=False)
                assert not list((light / name).rglob("*.part"))
            line = done.stderr
            assert line.startswith(f"aebench: error: {verb}: the machine failed, not the model: ")
            assert "No space left on device: '" in line and f"{name}" in line
            assert "; make room there" in line and line.count("\n") == 1
            assert files(light.folder) == before
        light.run(*command(verb))
    assert light.rows()["one"]["status"] == "ok"


def files(folder):
    """Each file with its content, without what aebench remembers."""
    found = (path for path in folder.rglob("*") if path.is_file())
    hidden = ".aebench", ".git"
    return {p: p.read_bytes() for p in found if not set(hidden) & set(p.parts)}


LIMITS = (
    ("plan", "RLIMIT_NOFILE", 8, "Too many open files: '", "raise the limit of open files"),
    ("train", "RLIMIT_AS", 1 << 30, "failed to map segment", "free some memory"),
    ("train", "RLIMIT_FSIZE", 4096, "File too large: 'runs/one/0'", "make room there"),
    ("encode", "RLIMIT_FSIZE", 4096, "File too large: '", "make room there"),
    ("knn", "RLIMIT_FSIZE", 100, "File too large: '", "make room there"),
)


@pytest.mark.slow
@linux
def test_limits(light):
    for verb in STAGES:
        for _, name, value, what, fix in (limit for limit in LIMITS if limit[0] == verb):
            limit = partial(resource.setrlimit, getattr(resource, name), (value, value))
            before = files(light.folder)
            done = light.run(*command(verb), ok=False, preexec_fn=limit)
            line = done.stderr
            assert line.startswith(f"aebench: error: {verb}: the machine failed, not the model: ")
            assert what in line and fix in line and line.count("\n") == 1
            assert files(light.folder) == before
        light.run(*command(verb))
    assert light.rows()["one"]["status"] == "ok"


def test_file_that_an_installed_plugin_wants_is_its_own_matter(light, tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "mine-1.0.dist-info").mkdir(parents=True)
    (site / "mine-1.0.dist-info/METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (site / "mine-1.0.dist-info/entry_points.txt").write_text("[aebench]\nmine = mine\n")
    text = LIGHT.replace("    from torch", '    open("nowhere")\n    from torch')
    (site / "mine.py").write_text(text.replace('"light"', '"mine"'))
    monkeypatch.syspath_prepend(str(site))
    light.params(runs={"one": {"model": "mine"}})
    run_until(light, "train")
    light.run(*command("train"))
    found = json.loads((light / "results/one/0/train.json").read_bytes())["status"]
    words = "failed: FileNotFoundError: [Errno 2] No such file or directory: 'nowhere' (mine.py:4)"
    assert found == words
    monkeypatch.delitem(sys.modules, "mine")
