"""A model that fails is a row; a machine that fails is not a result."""

import errno
import json
import os
import socket
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from email.message import Message
from unittest.mock import Mock
from urllib.error import HTTPError, URLError

import pytest
from conftest import LIGHT

from aebench.errors import Failure, Refused, failure_reason, is_machine_failure, outside

BROKEN = """\
import torch
from torch import nn
import aebench

class Model(nn.Module):
    def __init__(self, shape, fault):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 4 + (fault == "code")))
        shape = (*shape[:2], shape[2] // 2) if fault == "image" else shape
        pixels = shape[0] * shape[1] * shape[2]
        self.decoder = nn.Sequential(nn.Linear(self.encoder[1].out_features, pixels))
        self.decoder.append(nn.Unflatten(1, shape))
        self.fault = fault

        self.note = 3 if fault == "note" else None
        self.baseline = "best" if fault == "baseline" else None

    def loss(self, images):
        if self.fault == "grows":
            self.decoder.register_buffer("late", torch.zeros(1))
        if self.fault == "raise":
            raise ValueError("no such thing\\nsecond line")
        if self.fault == "memory":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        if self.fault == "gpu":
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy")
        if self.fault == "exit":
            exit()
        loss = (self.decoder(self.encoder(images)) - images).square().mean()
        return loss * float("nan") if self.fault == "nan" else loss

def build(shape, latent, fault="none"):
    if fault == "refuse":
        raise aebench.Refused("not on a Monday")
    return Model(shape, fault)

@aebench.hookimpl
def register_models(register):
    register("broken", build)
"""


@pytest.fixture
def broken(light):
    """A workspace whose model fails as its option `fault` says; `runs` sets the faults."""
    (light / "plugins/broken.py").write_text(BROKEN)

    def runs(*faults, **more):
        entries = {f: {"model": "broken", "latent": 4, "fault": f} for f in faults}
        light.params(runs=entries | more)
        return light

    return runs


def test_failed_models_are_rows_and_the_others_go_on(broken):
    faults = "nan", "raise", "code", "image", "refuse", "grows", "note", "baseline"
    workspace = broken(*faults, good={"model": "light", "latent": 4})
    for verb in ("plan", "prepare"):
        workspace.run("aebench", verb)
    for run in (*faults, "good"):
        for verb in ("train", "encode", "knn"):
            workspace.run("aebench", verb, run, "0")
    done = workspace.run("aebench", "report")
    assert "aebench: 8 of 9 runs failed" in done.stderr
    rows = workspace.rows()
    where = "failed: plugins/broken.py: model 'broken':"
    words = f"{where} the trained state does not fit a newly built model"
    shape = "of this shape come from layers made for the shape that build is given"
    assert rows.pop("grows")["status"].startswith(words)
    assert {run: row["status"] for run, row in rows.items()} == {
        "nan": "failed: the loss is nan in epoch 1",
        "raise": "failed: ValueError: no such thing (broken.py:23)",
        "code": f"{where} encoder returned (8, 5) for 8 images, expected (8, 4); codes {shape}",
        "image": f"{where} decoder returned (8, 1, 8, 4) for 8 codes, expected (8, 1, 8, 8); "
        f"images {shape}",
        "refuse": "failed: refused: not on a Monday",
        "note": f"{where} note is int; allowed: str",
        "baseline": f"{where} baseline is 'best'; allowed: pca, pixels, or none",
        "good": "ok",
    }
    assert rows["nan"]["mse"] == "" and 0 < float(rows["good"]["mse"]) < 1
    text = (workspace / "reports/report.md").read_text()
    assert "`dvc repro -s -f train@nan-0 && dvc repro`" in text


def test_report_fails_when_all_trained_runs_failed_and_dvc_trains_the_others_alone(broken):
    workspace = broken("nan")
    done = workspace.run("dvc", "repro", ok=False)
    assert "aebench: error: all trained runs failed" in done.stderr
    assert "the loss is nan" in (workspace / "reports/report.md").read_text()
    broken("nan", good={"model": "light", "latent": 4})
    chain = {f"{stage}@good-0" for stage in ("train", "encode", "knn")}
    chain.add("stress@good")
    assert workspace.stages("dvc", "repro") == {"plan", "report"} | chain
    assert workspace.stages("dvc", "repro") == {"plan"}


@pytest.mark.parametrize("fault", ["memory", "gpu"])
def test_failure_of_the_machine_is_not_a_result(broken, fault):
    workspace = broken(fault)
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    done = workspace.run("aebench", "train", fault, "0", ok=False)
    assert done.stderr.startswith("aebench: error: train: the machine failed, not the model:")
    assert done.stderr.count("\n") == 1
    assert not list(workspace.folder.glob(f"r*s/{fault}/0/*"))


def number(name, *more):
    return OSError(getattr(errno, name), os.strerror(getattr(errno, name)), *more)


def wrapped(error, by: type[Exception] = ValueError):
    """What `except` makes of it: the chain is kept even where nothing shows it."""
    try:
        try:
            raise error
        except Exception:
            raise by("no data") from None
    except by as outer:
        return outer


def of(module, base, text):
    """An error of a class of that module."""
    return type("Own", (base,), {"__module__": module})(text)


MACHINES = [
    (RuntimeError("CUDA error: unspecified launch failure"), "GPU"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "GPU"),
    (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:219, unhandled cuda error"), "GPU"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
    (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        "memory",
    ),
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is pos"), "memory"),
    (RuntimeError("unable to mmap 4096 bytes from file: Cannot allocate memory (12)"), "memory"),
    (RuntimeError("std::bad_alloc"), "memory"),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory"),
    (MemoryError(), "memory"),
    (MemoryError("Unable to allocate 9.09 TiB for an array with shape"), "memory"),
    (number("ENOSPC"), "room"),
    (number("EDQUOT"), "room"),
    (OSError("360 requested and 0 written"), "room"),  # numpy's, of a full disk
    (RuntimeError("unable to write to file </torch_7>: No space left on device (28)"), "room"),
    (
        of(
            "safetensors_rust",
            Exception,
            'Error while serializing: IoError(Os { code: 5, message: "Input/output error" })',
        ),
        "disk",
    ),
    (
        of("sqlite3", Exception, "database or disk is full"),
        "room",
    ),
    (
        OSError(
            "Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
            "last):\nOSError: [Errno 28] No space left on device"
        ),
        "room",
    ),
    (number("EMFILE"), "ulimit -n"),
    (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
    (RuntimeError("Too many open files. Communication with the workers is no longer"), "ulimit -n"),
    (number("EAGAIN"), "ulimit -u"),
    (RuntimeError("can't start new thread"), "ulimit -u"),
    (RuntimeError("Resource temporarily unavailable"), "ulimit -u"),  # std::thread's
    (number("EIO"), "disk"),
    (number("EROFS", "/x"), "disk"),
    (number("ESTALE"), "disk"),
    (number("ENXIO"), "disk"),
    (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "dmesg"),
    (subprocess.CalledProcessError(-9, ["convert"]), "dmesg"),
    (BrokenProcessPool("A process in the process pool was terminated abruptly while"), "dmesg"),
    (number("ETIMEDOUT"), "network"),
    (
        RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [::1]:4711"),
        "network",
    ),
    (URLError(socket.gaierror(-3, "Temporary failure in name resolution")), "network"),
    (HTTPError("http://x", 503, "Service Unavailable", Message(), None), "network"),
    (ExceptionGroup("both", [ValueError("1"), ExceptionGroup("", [number("EIO")])]), "disk"),
    (wrapped(number("ENOSPC")), "room"),
    (wrapped(wrapped(MemoryError())), "memory"),
    (wrapped(number("ENOSPC"), Refused), "room"),
    (wrapped(MemoryError(), Failure), "memory"),
]
MODELS = [
    RuntimeError("CUDA error: device-side assert triggered"),
    wrapped(RuntimeError("CUDA error: device-side assert triggered")),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    RecursionError("maximum recursion depth exceeded"),
    ValueError("the code is out of memory slots"),
    Failure("no space left on device"),
    wrapped(URLError(socket.gaierror(-3, "Temporary failure in name resolution")), Refused),
    wrapped(number("EIO"), Failure),
    RuntimeError("bfloat16 requested and not available"),
    RuntimeError("the search timed out"),
    subprocess.TimeoutExpired(["convert"], 5),
    RuntimeError("no such device: abc"),
    OSError("no such device: abc"),
    RuntimeError("bad message in block 74"),
    of("aebench_plugins.mine", RuntimeError, "out of memory slots"),
    of("installed_plugin.blocks", Exception, "out of memory slots"),
    number("ENOENT", "/x"),
    number("EACCES", "/x"),
    number("EPIPE"),
    OSError("image file is truncated"),
    HTTPError("http://x", 404, "Not Found", Message(), None),
    TimeoutError(),
    ModuleNotFoundError("No module named 'timm'"),
    ExceptionGroup("both", [ValueError("1"), KeyError("2")]),
]


@pytest.mark.parametrize(("error", "fix"), MACHINES)
def test_what_the_machine_does_is_told_by_what_failed(error, fix):
    assert is_machine_failure(error)
    line, told = outside(error) or ("", "")
    assert fix in told and line.startswith("the machine failed, not the model: ")


@pytest.mark.parametrize("error", MODELS)
def test_what_else_a_model_raises_is_its_own(error, monkeypatch):
    monkeypatch.setattr("aebench.errors.INSTALLED", {"installed_plugin"})
    assert not is_machine_failure(error)


def test_what_a_model_refuses_is_a_row_whatever_it_was_made_of():
    error = wrapped(URLError(socket.gaierror(-3, "Temporary failure in name resolution")), Refused)
    assert failure_reason(error) == "refused: no data"
    with pytest.raises(Refused):
        failure_reason(wrapped(number("ENOSPC"), Refused))


OWN = """\
class Full(Exception):
    pass
"""
HELPED = """\
    from _helper import Full
    raise Full("the codes run out of memory")
    from torch"""


def test_error_of_a_helpers_own_class_is_the_models(light):
    (light / "plugins/_helper.py").write_text(OWN)
    (light / "plugins/light.py").write_text(LIGHT.replace("    from torch", HELPED))
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    light.run("aebench", "train", "one", "0")
    result = json.loads((light / "results/one/0/train.json").read_text())
    assert result["status"] == "failed: Full: the codes run out of memory (light.py:5)"


@pytest.mark.parametrize("verb", ["plan", "prepare", "train", "encode", "knn", "report"])
def test_file_that_cannot_be_written_is_named(light, verb):
    """Where folders are to be, there are files: so for every user, root too."""
    folder, *_, file = {
        "plan": ("plan", "plan"),
        "prepare": ("results", "results"),
        "train": ("runs", "runs/one/0"),
        "encode": ("results/one/0/encode.json", "results/one/0/encode.json"),
        "knn": ("results/one/0/knn.json", "results/one/0/knn.json"),
        "report": ("reports", "reports"),
    }[verb]
    stages = ["plan", "prepare", "train", "encode", "knn", "report"]
    commands = [[v, *(["one", "0"] if v in ("train", "encode", "knn") else [])] for v in stages]
    for command in commands[: stages.index(verb)]:
        light.run("aebench", *command)
    if file.endswith(".json"):
        (light / folder).mkdir()
    else:
        (light / folder).write_text("in the way")
    before = {path for path in light.folder.rglob("*") if ".aebench" not in path.parts}
    done = light.run("aebench", *commands[stages.index(verb)], ok=False)
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"aebench: error: {verb}: ") and f"'{file}'; " in line
    assert ("nothing was written" in line) == (verb != "plan")  # which renames its files one by one
    assert "machine" not in line and done.stderr.count("aebench: error") == 1
    assert not set(light.folder.rglob("*.part")) - before


def test_half_a_cleaning_is_not_told_as_none(light, monkeypatch):
    for name in ("weights.safetensors", "train_codes.npy"):
        (light / "runs/gone/0").mkdir(parents=True, exist_ok=True)
        (light / "runs/gone/0" / name).touch()
    remove = Mock(side_effect=[None, number("EIO", "runs")])
    monkeypatch.setattr("aebench.commands.clean.remove", remove)
    done = light.run("aebench", "clean", "--yes", ok=False)
    words = "[Errno 5] Input/output error: 'runs'; mend that disk, or how it is mounted"
    assert f"OSError: {words}, and run `aebench clean` again\n" in done.stderr


def test_model_that_ends_the_process_is_a_row(broken):
    workspace = broken("exit")
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    workspace.run("aebench", "train", "exit", "0")
    result = json.loads((workspace / "results/exit/0/train.json").read_text())
    assert result["status"] == "failed: ended the process: SystemExit(None) (broken.py:29)"


def test_file_that_registers_nothing_is_named(light):
    (light / "plugins/light.py").write_text(LIGHT.replace("@hookimpl\n", ""))
    done = light.run("aebench", "plan", ok=False)
    assert "plugins/light.py: registers nothing; decorate `register_models" in done.stderr


FORKED = "import psutil, sys\nprint(psutil.Process().parent().cmdline(), file=sys.stderr)\n"
# What DVC is for the server of forks: the parent of the stages.
DVC = """
import os, subprocess
for _ in range(2):
    stage = os.environ | {"DVC_STAGE": "plan"}
    subprocess.run(["aebench", "plan", "--check"], env=stage, check=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="stages are forks on Linux alone")
def test_long_folder_of_temporary_files_and_no_home(light, tmp_path):
    long, stubs = tmp_path / ("t" * 160), tmp_path / "stubs"
    for folder in (long, stubs):
        folder.mkdir()
    (stubs / "torch.py").touch()  # which the server imports
    path = f"{stubs}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    light.env |= {"TMPDIR": str(long), "HOME": "/proc/nowhere", "PYTHONPATH": path}
    (light / "plugins/light.py").write_text(FORKED + LIGHT)
    done = light.run(sys.executable, "-c", DVC)
    servers = [line for line in done.stderr.splitlines() if "aebench.forkserver" in line]
    assert len(servers) == 2 and servers[0] == servers[1] and not list(long.iterdir())
    assert done.stdout.count("prepare: no result") == 2
