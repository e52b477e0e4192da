"""Kills, full disks, second writers, edits under a run, damaged files: does anything get lost?

    python benchmarks/survival.py --minutes 60 | tee benchmarks/survival.txt
    python benchmarks/survival.py --seed 7 --trial kills-12    # one of them again

Two kinds of trials take turns, on digits with tiny runs in temporary workspaces:

kills    `dvc repro` in a copy of its own is killed, stopped or interrupted at a random or an aimed
         moment, its disk is full, another command writes beside it, or its plug-in, parameters or
         DVC's cache are edited. Then no process and no temporary file of it is left, `dvc repro`
         ends with 0 in the bits of an undisturbed run, and what was finished is not done again.
files    one file of a finished workspace is damaged, and something reads it, in this process: it
         gives the figures of before, says which row it hides, or ends with a line that names the
         file and a command.

Exit status 1 if a trial found a fault.
"""

import argparse
import collections
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

os.environ["OMP_NUM_THREADS"] = "1"  # trials run side by side; read at the imports below
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from damage import FileTrials, finished  # noqa: E402
from trials import (  # noqa: E402
    Trial,
    differing,
    facts,
    may_mount,
    mount,
    prepared,
    report_fault,
    send,
    small_disk,
    tracebacks,
)

from aebench.report.results import read_results  # noqa: E402
from aebench.workspace import Workspace  # noqa: E402

AT_ONCE = 3  # trials with processes; each waits more than it computes
TURN = {"kills": 75.0, "files": 75.0}  # seconds
# What is done before a trial begins -> the DVC targets that make it so.
STARTS = {
    "nothing": [],
    "prepared": ["prepare"],
    "trained": ["train"],
    "encoded": ["encode"],
    "searched": ["knn"],
}
STAGES = ["prepare", "train@tiny-0", "train@pixels-0", "encode@tiny-0", "encode@pixels-0"]
STAGES += ["knn@tiny-0", "knn@pixels-0", "stress@tiny", "stress@pixels", "report"]
REMAINING = dict(zip(STARTS, (0, 1, 3, 5, 7), strict=True))  # of STAGES
RENAMES = {
    "plan": 3,
    "prepare": 8,
    "train": 2,
    "encode": 7,
    "knn": 2,
    "stress": 1,
    "report": 15,
}  # of a set
VICTIMS = ("dvc", "shell", "stage", "fork", "server", "child")
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP]
SECOND = (
    ["dvc", "repro"],
    ["aebench", "plan"],
    ["aebench", "plan", "--check"],
    ["aebench", "prepare"],
    ["aebench", "train", "tiny", "0"],
    ["aebench", "encode", "tiny", "0"],
    ["aebench", "knn", "tiny", "0"],
    ["aebench", "report"],
    ["aebench", "list"],
    ["dvc", "checkout"],
    ["dvc", "status"],
)


@dataclass
class Tried:
    """What one trial did and found."""

    name: str  # kills-12
    kind: str
    what: str
    until: str = "all"  # of STARTS: what the trial computes
    faults: list[str] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)  # of what else happened


class Kills:
    """Trials with real processes."""

    def __init__(self, seed: int, folder: Path) -> None:
        """Make the workspaces that trials begin with, and the reference."""
        self.seed, self.folder = seed, folder
        base = prepared(folder / "base/workspace")
        self.starts: dict[str, Path] = {}
        first = Trial(base.folder, folder / "reference")
        before = time.monotonic()
        for name, targets in STARTS.items():
            if targets and first.start("dvc", "repro", *targets).wait():
                sys.exit(f"dvc repro {targets[0]} failed:\n{first.said()}")
            self.starts[name] = folder / "starts" / name
            shutil.copytree(first.workspace.folder, self.starts[name], symlinks=True)
        if first.repro()[0]:
            sys.exit(f"the undisturbed run failed:\n{first.said()}")
        self.seconds = time.monotonic() - before
        self.finished = first.workspace.folder
        self.facts = {name: facts(folder) for name, folder in self.starts.items()}
        self.facts["all"] = facts(self.finished)
        self.disk = may_mount()

    def run(self, number: int) -> Tried:
        """The trial of that number: the same choices for the same seed."""
        rng = random.Random(f"{self.seed} kills {number}")
        name = f"kills-{number}"
        kinds = {
            "signal": 60,
            "full disk": 8 if self.disk else 0,
            "second command": 14,
            "edit undone": 12,
            "damaged cache": 6,
        }
        kind = rng.choices([*kinds], [*kinds.values()])[0]
        begin = rng.choices([*STARTS], [1, 2, 2, 2, 2])[0]
        if kind == "damaged cache":
            begin = "finished"
        source = self.finished if begin == "finished" else self.starts[begin]
        place = self.folder / name
        # Half of them end before the report, which takes as long as the rest.
        later = [*STARTS][[*STARTS].index(begin) + 1 :] if begin in STARTS else []
        until = rng.choice(later) if later and rng.random() < 0.6 else "all"
        tried = Tried(name, kind, f"from {begin} to {until}", until=until)
        if kind != "full disk":
            return self.within(tried, rng, source, begin, place)
        used = sum(path.stat().st_size for path in source.rglob("*") if path.is_file()) // 1024
        files = sum(1 for _ in source.rglob("*"))
        room = used + 4 * files + rng.choice([50, 200, 600, 1200, 2500])
        with small_disk(place, room):
            return self.within(tried, rng, source, begin, place)

    def within(
        self, tried: Tried, rng: random.Random, source: Path, begin: str, place: Path
    ) -> Tried:
        """Disturb it, repair it, look what it is then."""
        children = rng.choice(["", "", "child", "session", "fork"])
        trial = Trial(source, place, children)
        try:
            self.disturb(tried, rng, trial, begin)
            tried.what += f", plug-in starts: {children}" if children else ""
            self.look(tried, trial)
        except Exception:
            tried.faults.append(f"the trial itself failed: {traceback.format_exc()}")
        finally:
            trial.close()
        return tried

    def disturb(self, tried: Tried, rng: random.Random, trial: Trial, begin: str) -> None:
        """What the kind of trial says."""
        if tried.kind == "full disk":
            started = trial.start(*repro(tried))
            try:
                status = started.wait(120)
            except subprocess.TimeoutExpired:
                # The index of DVC's cache tries again for ever where its disk is full.
                tried.counts.append("DVC waited for room and was killed")
                started.kill()
                status = started.wait()
            tried.counts.append("ended with 0" if status == 0 else "disk was full")
            mount(trial.folder, "remount,size=200m")
        elif tried.kind == "damaged cache":
            self.damage_cache(tried, rng, trial)
        elif tried.kind == "signal":
            self.signal(tried, rng, trial, begin)
        else:
            self.meanwhile(tried, rng, trial, begin)

    def aim(self, rng: random.Random, begin: str, until: str) -> dict[str, Any]:
        """An event in a stage that is still to run, or in DVC."""
        stages = STAGES[REMAINING[begin] : REMAINING.get(until)]
        who = rng.choice([*stages, *stages, "plan", "dvc"])
        event = rng.choice(["os.rename", "os.rename", "os.rename", "open", "open", "import"])
        if who == "dvc":
            event = rng.choice(["os.rename", "open", "os.remove", "subprocess.Popen"])
        if event == "import":
            return {"who": who, "event": event, "path": "", "number": rng.randint(1, 250)}
        most = {"open": 12}.get(event, 8)
        if event == "os.rename":
            most = RENAMES.get(who.partition("@")[0], most)
        path = "" if event == "subprocess.Popen" else "workspace"
        if event == "open" and who != "dvc":
            path = rng.choice(["", "results/", "runs/", "data/", "plugins", "plan/"])
        if event == "os.rename" and who != "dvc":
            path = ""
        return {"who": who, "event": event, "path": path, "number": rng.randint(1, most)}

    def signal(self, tried: Tried, rng: random.Random, trial: Trial, begin: str) -> None:
        """Send it to one of the processes, or to some of them."""
        number = rng.choice(SIGNALS)
        chosen = rng.choice([*VICTIMS, "all", "group", "some"])
        some = rng.sample(VICTIMS, rng.randint(2, 3))
        if rng.random() < 0.6:
            aim = self.aim(rng, begin, tried.until)
            process = trial.start(*repro(tried), aim=aim)
            reached = trial.halted(process)
            tried.what += f", {aim['who']} before {aim['event']} {aim['path']} {aim['number']}"
            tried.counts.append("aimed" if reached else "aimed, not reached")
        else:
            share = (REMAINING.get(tried.until, len(STAGES)) - REMAINING[begin]) / len(STAGES)
            seconds = rng.random() * (1 + share * self.seconds)
            process = trial.start(*repro(tried))
            end = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            tried.what += f", after {seconds:.2f} s"
        roles = trial.roles()
        if chosen == "group" and number != signal.SIGSTOP:
            with_group = [p for p in trial.processes() if in_group(p, process.pid)]
            send(with_group, number)
        else:
            names = {"all": [*roles], "group": [*roles], "some": some}.get(chosen, [chosen])
            victims = [p for name in names for p in roles.get(name, [])]
            if not victims:
                chosen, victims = "stage or dvc", roles.get("stage") or roles.get("dvc") or []
            if len(victims) > 1 and rng.random() < 0.5:
                victims = [rng.choice(victims)]  # the guardian of a stage, or the stage alone
            send(victims, number)
            if number == signal.SIGSTOP:
                time.sleep(rng.choice([0.05, 0.7]))
                trial.go()
                send(victims, signal.SIGKILL)
        trial.go()
        if chosen in ("all", "group", "some", "stage", "stage or dvc"):
            tried.counts.append("its guardian, too")
        tried.what += f", {number.name} to {chosen if chosen != 'some' else ' + '.join(some)}"
        tried.counts.append(number.name)
        self.ended(tried, process)

    def ended(self, tried: Tried, process: Any) -> None:
        """Wait for the end of DVC."""
        try:
            process.wait(90)
        except Exception:
            tried.faults.append("dvc repro had not ended after 90 s")
            process.kill()

    def meanwhile(self, tried: Tried, rng: random.Random, trial: Trial, begin: str) -> None:
        """Halt it somewhere, do something else there, let it go on."""
        aim = self.aim(rng, begin, tried.until)
        process = trial.start(*repro(tried), aim=aim)
        reached = trial.halted(process)
        tried.what += f", {aim['who']} before {aim['event']} {aim['path']} {aim['number']}"
        tried.counts.append("aimed" if reached else "aimed, not reached")
        if tried.kind == "second command":
            command = rng.choice(SECOND)
            other = trial.start(*command)
            tried.what += f", beside it {' '.join(command)}"
            if rng.random() < 0.7:  # else both go on at once
                try:
                    other.wait(30)
                except Exception:
                    tried.counts.append("the other waits")
            trial.go()
            self.ended(tried, other)
            tried.counts.append(
                f"the other ended with {0 if other.returncode == 0 else 'an error'}"
            )
        else:
            path, text = self.edit(tried, rng, trial)
            before = path.read_text()
            path.write_text(text)
            if rng.random() < 0.5:
                status = trial.start("aebench", "plan").wait()
                tried.what += f", aebench plan ({status})"
            trial.go()
            wait = rng.choice([0.0, 0.3, 1.0, 3.0, 60.0])
            end = time.monotonic() + wait
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            tried.what += f", undone after {wait} s"
            path.write_text(before)
        self.ended(tried, process)

    def edit(self, tried: Tried, rng: random.Random, trial: Trial) -> tuple[Path, str]:
        """A file of the workspace and another text for it."""
        files = {
            "plugins/tiny.py": [
                ("nn.Linear(pixels, latent)", "nn.Linear(pixels, latent, bias=False)"),
                ("import os, subprocess", "import os, subprocess; 1 / 0"),
                ("def build(shape, latent", "def build(shape, latent, other=1"),
                ("from aebench", "from aebench this is no"),
            ],
            "plugins/digits.py": [("np.rint(", "1 - np.rint("), ("% 5 == 4", "% 5 == 3")],
            "plugins/pixels.py": [("nn.Flatten()", "nn.Flatten(1)")],
            "params.yaml": [
                ("epochs: 1", "epochs: 2"),
                ("k: 10", "k: 1"),
                ("learning_rate: 0.003", "learning_rate: 0.3"),
                ("latent: 4", "latent: 5"),
                ("seeds:", "seed:"),
                ("model: pixels", "model: pca"),
            ],
        }
        name = rng.choice([*files])
        old, new = rng.choice(files[name])
        path = trial.workspace / name
        text = path.read_text()
        assert old in text, (name, old)
        tried.what += f", {name}: {old!r} -> {new!r}"
        return path, text.replace(old, new)

    def damage_cache(self, tried: Tried, rng: random.Random, trial: Trial) -> None:
        """Damage an object of DVC's cache, remove what was made of it, and let DVC do the rest."""
        objects = sorted((trial.workspace / ".dvc/cache/files/md5").glob("??/*"))
        path = rng.choice([p for p in objects if p.is_file()])
        path.chmod(0o644)
        content = path.read_bytes()
        how = rng.choice(["truncated", "emptied", "flipped", "removed"])
        at = rng.randrange(max(1, len(content)))
        damaged = {
            "truncated": content[:at],
            "emptied": b"",
            "flipped": content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :],
        }
        if how == "removed":
            path.unlink()
        else:
            path.write_bytes(damaged[how])
            if rng.random() < 0.5:
                path.chmod(0o444)  # which DVC takes for what it has checked
        gone = rng.choice(["results", "runs", "data"])
        shutil.rmtree(trial.workspace / gone, ignore_errors=True)
        tried.what += f", {path.name[:6]} {how}, {gone}/ removed"
        failed = trial.start(*repro(tried)).wait() != 0
        said = trial.said()
        told = [line for line in said.splitlines() if line.startswith("aebench: ")]
        commands = {part for line in told for part in line.split("`")[1::2]}
        if failed and not commands:
            tried.faults.append(f"no command is named: {last_lines(said)}")
        tried.counts += ["needed a command"] if commands else []
        for command in sorted(commands):
            trial.start("sh", "-c", command).wait()

    def look(self, tried: Tried, trial: Trial) -> None:
        """What is left, what the next `dvc repro` does, whether the results are the reference's."""
        if left := trial.left():
            tried.faults.append(f"still there after 2 s: {', '.join(left)}")
        if (lying := trial.leftovers()) and "its guardian, too" in tried.counts:
            tried.counts.append("left in TMPDIR")  # nobody was there to remove it
        elif lying:
            tried.faults.append(f"left in TMPDIR: {', '.join(lying[:5])}")
        send(trial.processes(), signal.SIGKILL)
        before = trial.finished()
        status, busy = trial.repro(*repro(tried)[2:])
        tried.counts += ["lock of the killed DVC was there"] * busy
        said = trial.said()
        if status:
            tried.faults.append(f"the next dvc repro failed: {last_lines(said)}")
            return
        tried.faults += [f"traceback: {words}" for words in tracebacks(said)]
        found = facts(trial.workspace.folder)
        if other := differing(found, self.facts[tried.until]):
            if tried.kind == "second command":  # which may have been a stage beyond
                other = [name for name in other if found.get(name) != self.facts["all"].get(name)]
            if tried.kind == "damaged cache":
                # DVC puts a damaged object in its place unseen; it was not needed so far.
                other = [name for name in other if not refused(trial, name)]
                tried.counts.append("refused by who reads it")
            if other:
                tried.faults.append(f"other content: {', '.join(other[:6])}")
            if other or tried.kind == "damaged cache":
                return
        if tried.until == "all":
            reference = read_results(Workspace(self.finished))
            if wrong := report_fault(trial.workspace.folder, reference):
                tried.faults.append(wrong)
        after = trial.finished()
        again = [path for path, date in before.items() if after.get(path) != date]
        if again and tried.kind != "damaged cache":
            tried.faults.append(f"was finished and was done again: {', '.join(again)}")
        if parts := trial.parts():
            tried.counts.append("left *.part, which the next writer removes")
            del parts


def repro(tried: Tried) -> list[str]:
    """The command of the trial."""
    return ["dvc", "repro", *STARTS.get(tried.until, [])]


def refused(trial: Trial, name: str) -> bool:
    """Whether the stage that reads the file says that it is damaged."""
    parts = Path(name).parts
    if parts[0] == "runs":
        command = ["aebench", "encode" if "weights" in name else "knn", parts[1], parts[2]]
    elif parts[0] == "data":
        command = ["aebench", "knn" if "test" in name else "train", "tiny", "0"]
    else:
        command = ["aebench", "report"]
    return (trial.start(*command).wait() != 0 or parts[0] == "results") and name in trial.said()


def in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group
    except OSError:
        return False


def last_lines(text: str) -> str:
    """The end of what was said, in a line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return " | ".join((errors or lines)[-3:])[:400]


class Work:
    """Trials of both kinds, what they did, and what they found."""

    def __init__(self, seed: int, folder: Path, kind: str | None) -> None:
        """`kind`: the only one that is wanted."""
        self.seed = seed
        note(f"making workspaces in {folder}")
        self.kills = Kills(seed, folder) if kind != "files" else None
        self.files = (
            FileTrials(seed, folder / "files", finished(folder / "finished"))
            if kind != "kills"
            else None
        )
        self.tried: list[Tried] = []
        self.next = {"kills": 0, "files": 0}

    def one(self, name: str) -> Tried:
        """The trial of that name."""
        kind, _, number = name.partition("-")
        if kind == "kills":
            assert self.kills
            return self.kills.run(int(number))
        assert self.files
        kind, what, faults, counts = self.files.run(int(number))
        return Tried(name, kind, what, faults=faults, counts=counts)

    def turn(self, kind: str, end: float) -> None:
        """Trials of a kind until then."""
        if kind == "files":
            for tried in self.in_fork(end):
                self.keep(tried)
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda _: self.some_kills(end), range(AT_ONCE)))

    def some_kills(self, end: float) -> None:
        """Those of one thread."""
        while time.monotonic() < end:
            number = self.next["kills"]
            self.next["kills"] += 1
            self.keep(self.one(f"kills-{number}"))

    def in_fork(self, end: float) -> Iterator[Tried]:
        """Trials in a process of their own: one that ends it is a fault of that trial."""
        while time.monotonic() < end:
            here, there = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.get_context("fork").Process(
                target=self.send_files, args=(there, end)
            )
            process.start()
            there.close()
            try:
                while True:
                    tried = here.recv()
                    self.next["files"] += 1
                    yield tried
            except EOFError:
                process.join()
            if process.exitcode:
                number = self.next["files"]
                self.next["files"] += 1
                words = f"the process ended with {process.exitcode}"
                yield Tried(f"files-{number}", "files", "", faults=[words])

    def send_files(self, there: Any, end: float) -> None:
        """Those of one process."""
        while time.monotonic() < end:
            there.send(self.one(f"files-{self.next['files']}"))
            self.next["files"] += 1

    def keep(self, tried: Tried) -> None:
        """Take it down; a fault is said at once."""
        self.tried.append(tried)
        if tried.faults:
            note(f"{tried.name} ({tried.kind}: {tried.what})")
            for fault in tried.faults:
                note(f"    {fault}")

    def summary(self) -> str:
        """A table by kind, and each fault with what repeats it."""
        kinds: dict[tuple[str, str], list[Tried]] = collections.defaultdict(list)
        for tried in self.tried:
            kinds[tried.name.partition("-")[0], tried.kind].append(tried)
        rows = [
            [group, kind, len(found), sum(bool(t.faults) for t in found), counted(found)]
            for (group, kind), found in sorted(kinds.items())
        ]
        table = tabulate(rows, ["", "kind", "trials", "with faults", "of them"])
        totals = collections.Counter(tried.name.partition("-")[0] for tried in self.tried)
        words = ", ".join(f"{totals[kind]} {kind}" for kind in ("kills", "files"))
        faults = [
            f"--seed {self.seed} --trial {t.name}: {t.kind}: {t.what}\n    "
            + "\n    ".join(t.faults)
            for t in self.tried
            if t.faults
        ]
        found = "\n".join(faults) or "nothing was lost, no traceback, no wrong figure"
        return (
            f"seed {self.seed}: {words}\n\n{table}\n\n{len(faults)} trials found a fault\n{found}"
        )


def counted(found: list[Tried]) -> str:
    """How often what happened."""
    counts = collections.Counter(word for tried in found for word in tried.counts)
    return ", ".join(f"{count} {word}" for word, count in counts.most_common(8))


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--trial", help="only this one, as kills-12")
    parser.add_argument("--only", choices=["kills", "files"], help="one kind of trials")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="survival-") as folder:
        only = asked.trial.partition("-")[0] if asked.trial else asked.only
        work = Work(asked.seed, Path(folder).resolve(), only)
        if asked.trial:
            work.keep(found := work.one(asked.trial))
            print(json.dumps(vars(found), indent=1))
            return int(bool(found.faults))
        end = time.monotonic() + 60 * asked.minutes
        while time.monotonic() < end:
            for kind, seconds in TURN.items():
                if asked.only in (None, kind) and time.monotonic() < end:
                    work.turn(kind, min(end, time.monotonic() + seconds))
    print(work.summary())
    return int(any(tried.faults for tried in work.tried))


if __name__ == "__main__":
    sys.exit(main())
