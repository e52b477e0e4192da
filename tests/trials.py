"""Runs of DVC that are stopped, killed and disturbed on purpose, and what must be left of them."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from conftest import LIGHT, ROOT, SMALL, Workspace, make

from aebench.report.markdown import markdown
from aebench.report.render import Report
from aebench.report.results import Results, read_results
from aebench.workspace import PER_RUN, file_hash, sha256
from aebench.workspace import Workspace as Files

RUNS = {"tiny": {"model": "tiny", "latent": 4}, "pixels": {"model": "pixels"}}
# As conftest's, with children of its own where the trial wants them.
TINY = LIGHT.replace('"light"', '"tiny"').replace(
    "    from torch import nn\n",
    """\
    import os, subprocess
    kinds = os.environ.get("TRIAL_CHILDREN", "").split()
    if "fork" in kinds and os.fork() == 0:
        os.execvp("sleep", ["sleep", "600"])
    if "child" in kinds:
        subprocess.Popen(["sleep", "600"])
    if "session" in kinds:
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    from torch import nn
""",
)
# Audit events are there wherever a Python process may be: no call has to be replaced.
HOOK = '''\
"""Halts a process of a trial at the event it was told, until it may go on."""
import json, os, sys, time

AIM = json.loads(os.environ.get("TRIAL_AIM", "null"))
count, busy = 0, False

def who():
    if name := os.environ.get("DVC_STAGE"):
        return name
    return "dvc" if any(os.path.basename(a) == "dvc" for a in sys.orig_argv[:2]) else ""

def hook(event, args):
    global count, busy
    if event != AIM["event"] or busy or who() != AIM["who"]:
        return
    if not any(isinstance(a, (str, bytes)) and AIM["path"] in os.fsdecode(a) for a in args):
        return
    count += 1
    if count < AIM["number"]:
        return
    busy = True
    try:
        file = os.open(AIM["file"], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except OSError:
        return  # it was there before
    os.write(file, b"%d" % os.getpid())
    os.close(file)
    end = time.monotonic() + 60
    while time.monotonic() < end and not os.path.exists(AIM["file"] + ".go"):
        time.sleep(0.01)

if AIM:
    sys.addaudithook(hook)
'''
# Of results.csv and of records: what is another one in each repetition.
CHANGING = re.compile(
    r"second|contended|share$|switches|load_average|peak|(dirty|date|commit|machine)$|^resumed"
)
TORN = "Unable to read RWLock-file"
BUSY = "is busy, it is being blocked by", "Unable to acquire lock", "waiting for lock"


def prepared(folder: Path, runs: dict[str, Any] = RUNS, seeds: tuple[int, ...] = (0,)) -> Workspace:
    """A workspace of digits with the small runs, committed; nothing is computed yet."""
    workspace = make(folder, SMALL, plugins=False)
    workspace.params(runs=runs, seeds=list(seeds), latent=4)
    (workspace / "plugins/tiny.py").write_text(TINY)
    for name in ("digits", "pca", "pixels"):
        shutil.copy(ROOT / f"plugins/{name}.py", workspace / "plugins")
    workspace.commit()
    return workspace


class Trial:
    """A copy of a workspace whose processes are known, with a folder of temporary files."""

    def __init__(self, source: Path, folder: Path, children: str = "") -> None:
        """`folder` is made, unless it is there and empty. `children`: what the plug-in starts."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, folder / "workspace", symlinks=True)
        self.workspace = Workspace(folder / "workspace")
        for name in ("tmp", "hook"):
            (folder / name).mkdir()
        (folder / "hook/sitecustomize.py").write_text(HOOK)
        self.file = folder / "halted"
        self.logs: list[Path] = []
        self.popen: list[subprocess.Popen[bytes]] = []
        path = os.pathsep.join([str(folder / "hook"), os.environ.get("PYTHONPATH", str(ROOT))])
        self.env = self.workspace.env | {
            "TRIAL": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "DVC_SITE_CACHE_DIR": str(folder / "site"),
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
        }
        self.env |= {"TRIAL_CHILDREN": children} if children else {}

    def start(self, *command: str, aim: dict[str, Any] | None = None) -> "subprocess.Popen[bytes]":
        """Begin it in a session of its own; what it prints goes to a log.

        `aim`: who (a stage of DVC, or `dvc`), event (of sys.audit), path (a part of one of its
        arguments) and number of the event before which that process is halted: see `halted`.
        """
        env = dict(self.env)
        if aim:
            env["TRIAL_AIM"] = json.dumps(aim | {"file": str(self.file)})
        # Elsewhere than the trial: its disk may be full.
        log = Path(tempfile.mkstemp(prefix="log-", dir=self.folder.parent)[1])
        self.logs.append(log)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.workspace.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.popen.append(process)
        return process

    def halted(self, process: "subprocess.Popen[bytes]", seconds: float = 60) -> int | None:
        """The number of the process that was halted; None if `process` ended before one was."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            over = process.poll() is not None
            with contextlib.suppress(OSError, ValueError):
                return int(self.file.read_text())
            if over:
                return None
            time.sleep(0.01)
        return None

    def go(self) -> None:
        """Let the halted process go on."""
        Path(f"{self.file}.go").touch()

    def again(self) -> None:
        """Forget it: another process may be halted."""
        for name in (self.file, Path(f"{self.file}.go")):
            name.unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """Those of this trial that run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                mine = process.environ().get("TRIAL") == str(self.folder)
                inside = Path(process.cwd()).is_relative_to(self.folder)
                if (mine or inside) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def roles(self) -> dict[str, list[psutil.Process]]:
        """dvc, shell, stage, server, fork, child -> the processes that are it."""
        found: dict[str, list[psutil.Process]] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found.setdefault(role(process), []).append(process)
        return found

    def left(self, seconds: float = 2.0) -> list[str]:
        """The processes that are still there after that time, at once if none is."""
        end = time.monotonic() + seconds
        while (there := self.processes()) and time.monotonic() < end:
            time.sleep(0.02)
        return [named(process) for process in there]

    def leftovers(self) -> list[str]:
        """What lies in the folder of temporary files."""
        tmp = self.folder / "tmp"
        return sorted(str(path.relative_to(tmp)) for path in tmp.rglob("*"))

    def parts(self) -> list[str]:
        """Files in the workspace that were never finished."""
        root = self.workspace.folder
        return [str(path.relative_to(root)) for path in root.rglob("*.part")]

    def said(self) -> str:
        """What all commands have printed."""
        return "\n".join(log.read_text(errors="replace") for log in self.logs)

    def finished(self) -> dict[str, str]:
        """Record -> its date, of the stages that dvc.lock says are done."""
        path = self.workspace / "dvc.lock"
        if not path.is_file() or not path.read_bytes():  # DVC was killed while it wrote it
            return {}
        found = {}
        for stage, about in (self.workspace.lock() or {}).items():
            if stage.partition("@")[0] not in ("prepare", *PER_RUN):
                continue
            for out in about.get("outs", []):
                path = self.workspace / out["path"]
                if path.suffix == ".json" and path.is_file() and md5(path) == out.get("md5"):
                    found[out["path"]] = json.loads(path.read_bytes())["provenance"]["date"]
        return found

    def repro(self, *targets: str, tries: int = 2) -> tuple[int, int]:
        """`dvc repro` until it ends with 0: its status, and how often DVC's lock was in the way."""
        for number in range(tries):
            self.start("dvc", "repro", *targets).wait()
            text = self.logs[-1].read_text(errors="replace")
            if TORN in text:  # DVC was killed in the midst of writing it
                (self.workspace / ".dvc/tmp/rwlock").unlink()
                continue
            if self.popen[-1].returncode == 0 or not any(words in text for words in BUSY):
                return self.popen[-1].returncode, number
        return self.popen[-1].returncode, tries

    def close(self) -> None:
        """End what is left, and remove the folder."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in self.popen:
            process.wait()
        for path in self.logs:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def md5(path: Path) -> str:
    import hashlib

    return hashlib.md5(path.read_bytes()).hexdigest()


def role(process: psutil.Process) -> str:
    """What the process is in a run of DVC."""
    words = process.cmdline()
    text = " ".join(words)
    if "forkserver" in text:
        above = process.parent()
        return "fork" if above and "forkserver" in " ".join(above.cmdline()) else "server"
    if any(os.path.basename(word) == "dvc" for word in words[:2]):
        return "dvc"
    if os.path.basename(words[0]) in ("sh", "bash", "dash"):
        return "shell"
    if any(os.path.basename(word) == "aebench" for word in words[:4]):
        return "stage"
    return "child"


def named(process: psutil.Process) -> str:
    """Its role, number and command."""
    try:
        return f"{role(process)} {process.pid} ({' '.join(process.cmdline())[:60]})"
    except (psutil.Error, IndexError):
        return f"process {process.pid}"


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """The signal to each that is still there."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def tracebacks(text: str) -> list[str]:
    """The last line of each traceback that went through aebench."""
    found = []
    for part in text.split("Traceback (most recent call last):")[1:]:
        lines = part.splitlines()[1:]
        ends = [i for i, line in enumerate(lines) if line and not line.startswith((" ", "\t"))]
        body = lines[: ends[0] + 1] if ends else lines
        if any(re.search(r'File "[^"]*/aebench/', line) for line in body):
            found.append(body[-1] if body else "a traceback")
    return found


def facts(folder: Path) -> dict[str, str]:
    """File -> its content's hash, of what each repetition must give again.

    Arrays and weights as they are, records without times, and the report as it is with the times
    of `reference`: see `report`.
    """
    found = {}
    kinds = [*folder.glob("runs/**/*"), *folder.glob("results/**/*")]
    kinds += [*folder.glob("data/prepared/*"), *folder.glob("plan/**/*")]
    for path in sorted(kinds):
        if not path.is_file() or path.suffix in (".part", ".tmp"):  # not finished; DVC's, neither
            continue
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json" and name.startswith("results/"):
            try:
                content = without_times(json.loads(path.read_bytes()))
            except ValueError:  # damaged
                found[name] = file_hash(path)
            else:
                found[name] = sha256(json.dumps(content, sort_keys=True).encode())
        elif name != "plan/sources.json":  # grows with what has been seen
            found[name] = file_hash(path)
    return found


def without_times(value: Any) -> Any:
    """A record without times, places and what follows from them."""
    if isinstance(value, dict):
        gone = "provenance", "timing", "checksum"
        kept = {k: v for k, v in value.items() if k not in gone and not CHANGING.search(k)}
        return {k: without_times(v) for k, v in kept.items()}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def report_fault(folder: Path, reference: Results) -> str | None:
    """What is wrong with reports/report.md: it must be that of its results.

    And these must give the text of the reference where they have its times.
    """
    found = read_results(Files(folder))
    if (folder / "reports/report.md").read_text() != markdown(Report(found).document):
        return "reports/report.md is not that of the results"
    return text_fault(found, reference)


def text_fault(found: Results, reference: Results) -> str | None:
    """Where the report of the results differs from the reference's, with the times of that."""
    for result, wanted in zip(found.results, reference.results, strict=False):
        changing = {k: v for k, v in wanted.columns.items() if CHANGING.search(k)}
        result.columns |= changing
        result.epoch_seconds = wanted.epoch_seconds
        records = [(result.stress, wanted.stress)]
        records += [(index, wanted.indexes[name]) for name, index in result.indexes.items()]
        for record, same in records:
            if record and same:
                record.provenance = same.provenance
    found.data.provenance = reference.data.provenance
    if found.codecs and reference.codecs:
        found.codecs[0].provenance = reference.codecs[0].provenance
    texts = [markdown(Report(one).document).splitlines() for one in (found, reference)]
    if texts[0] == texts[1]:
        return None
    first = next((a, b) for a, b in zip(*texts, strict=False) if a != b)
    return f"report.md: {first[0][:80]!r} instead of {first[1][:80]!r}"


def differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Files that are others, not there, or not to be there."""
    return sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system in memory of that size at `folder`. OSError where one may not be made."""
    folder.mkdir(parents=True, exist_ok=True)
    mount(folder, f"size={kilobytes}k")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def mount(folder: Path, options: str) -> None:
    """Make the file system, or (`remount,size=...`) change it."""
    command = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OSError(f"no rights to mount a file system: {error}") from None


def may_mount() -> bool:
    """Whether this user can make a file system in memory."""
    if sys.platform != "linux":
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder), 64):
                return True
        except OSError:
            return False
