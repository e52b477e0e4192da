"""Files of a finished workspace that are damaged on purpose, and what their readers must do."""

import collections
import contextlib
import dataclasses
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import struct
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from conftest import Workspace
from mutations import changed_bytes, changed_json, changed_params
from trials import CHANGING, Trial, facts, prepared

from aebench.errors import AebenchError, is_machine_failure
from aebench.report.gather import gather
from aebench.report.results import Results, read_results
from aebench.workspace import Workspace as Files

RUNS = {
    "tiny": {"model": "tiny", "latent": 4},
    "pca": {"model": "pca"},
    "pixels": {"model": "pixels"},
}
SEEDS = (0, 1)
BESIDE = "data ", "originals ", "sprite ", "near ", "codecs "  # what is shown beside the rows
SECONDS = 60  # that a reader may take
RANDOM = 10_000_000  # bytes
ELSEWHERE = "provenance", "checksum"  # another in each repetition
PLACES = "source", "knn_kernels", "threads"  # where it was computed, and how
STAGES = "prepare", "train", "encode", "knn", "stress", "codecs"
Damage = Callable[[random.Random, Path, bytes], bytes | None]


class Hang(BaseException):
    """A reader takes too long."""


class Executed:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


# Each: the content that the file gets; None: the damage is done.


def truncated(rng: random.Random, path: Path, content: bytes) -> bytes:
    return content[: rng.randrange(max(1, len(content)))]


def emptied(rng: random.Random, path: Path, content: bytes) -> bytes:
    return b""


def flipped(rng: random.Random, path: Path, content: bytes) -> bytes:
    if not content:
        return b"\0"
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def flipped_at_the_end(rng: random.Random, path: Path, content: bytes) -> bytes:
    """Among the values, not in a header."""
    if not content:
        return b"\0"
    at = len(content) - 1 - rng.randrange(max(1, len(content) // 2))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def lengthened(rng: random.Random, path: Path, content: bytes) -> bytes:
    return content + rng.choice([b"\0", content, b"\n", b" ", b"{}"])


def digit(rng: random.Random, path: Path, content: bytes) -> bytes:
    """Another digit in a text; in a binary file, a random byte."""
    places = [m.start() for m in re.finditer(rb"\d", content)] or [0]
    at = rng.choice(places)
    new = rng.choice([c for c in b"0123456789" if bytes([c]) != content[at : at + 1]])
    return content[:at] + bytes([new]) + content[at + 1 :]


def other_run(rng: random.Random, path: Path, content: bytes) -> bytes | None:
    """The file of that name of another run or seed, else of another folder."""
    others = [p for p in root_of(path).rglob(path.name) if p != path and usable(p)]
    others = [p for p in others if p.read_bytes() != content]
    return rng.choice(sorted(others)).read_bytes() if others else other_kind(rng, path, content)


def other_kind(rng: random.Random, path: Path, content: bytes) -> bytes:
    parts = ("results", "runs", "plan", "data", "reports", "plugins")
    others = [p for part in parts for p in (root_of(path) / part).rglob("*")]
    return rng.choice(sorted(p for p in others if p != path and usable(p))).read_bytes()


def removed(rng: random.Random, path: Path, content: bytes) -> None:
    path.unlink()


def folder(rng: random.Random, path: Path, content: bytes) -> None:
    path.unlink()
    path.mkdir()


def link_to_itself(rng: random.Random, path: Path, content: bytes) -> None:
    path.unlink()
    path.symlink_to(path.name)


def broken_link(rng: random.Random, path: Path, content: bytes) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def unreadable(rng: random.Random, path: Path, content: bytes) -> None:
    """For the owner; for root, who may read all, what the disk does not give."""
    if os.geteuid():
        path.chmod(0)
        return
    path.unlink()
    path.symlink_to("/proc/self/mem")


def random_bytes(rng: random.Random, path: Path, content: bytes) -> bytes:
    return rng.randbytes(rng.choice([1, 100, 4096, RANDOM]))


def pickled(rng: random.Random, path: Path, content: bytes) -> bytes:
    file = io.BytesIO()
    if rng.random() < 0.5:
        np.save(file, np.array([Executed()], object), allow_pickle=True)
    else:
        pickle.dump(Executed(), file)
    return file.getvalue()


def zipped(rng: random.Random, path: Path, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("arr_0.npy", content)
    return file.getvalue()


def enormous(rng: random.Random, path: Path, content: bytes) -> bytes:
    """A header that promises 10 TB; of a text, a number of 10,000 digits."""
    if path.suffix == ".npy":
        shape = rng.choice([(10**13,), (10**6, 10**7), (2**63,), (-1,), (10**13, 0)])
        kind = rng.choice(["'<f4'", "'|u1'", "'<i8'", "'|O'", "'<U1000000000'"])
        header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content[128:]
    if path.suffix == ".safetensors":
        return struct.pack("<Q", rng.choice([2**40, 2**63, len(content) * 2])) + content[8:]
    number = rng.choice(["9" * 10_000, "1e999", "-1", "NaN", "1e308", "18446744073709551617"])
    places = [m.span() for m in re.finditer(r"\d+(\.\d+)?(e[-+]?\d+)?", content.decode("latin-1"))]
    if not places:
        return number.encode()
    begin, end = rng.choice(places)
    return content[:begin] + number.encode() + content[end:]


def nested(rng: random.Random, path: Path, content: bytes) -> bytes:
    depth = rng.choice([500, 5_000, 100_000])
    kind = rng.choice([b"[", b'{"a":', b"- ", b"("])
    return kind * depth + rng.choice([b"", content])


def other_bytes(rng: random.Random, path: Path, content: bytes) -> bytes:
    return changed_bytes(content, rng)


def other_value(rng: random.Random, path: Path, content: bytes) -> bytes:
    """A value or a key of a JSON file; of params.yaml, of one of its own."""
    if path.name == "params.yaml":
        text = changed_params(rng).replace("light", "tiny")
        return text.encode("utf-8", "surrogatepass")
    return changed_json(json.loads(content), rng).encode("utf-8", "surrogatepass")


def other_code(rng: random.Random, path: Path, content: bytes) -> bytes:
    """A plug-in that cannot be imported, or computes something else."""
    lines = [
        "raise BaseException('no')",
        "raise SystemExit(3)",
        "raise MemoryError",
        "raise RecursionError",
        "import nowhere_to_be_found",
        "1 / 0",
        "def (",
        "f = lambda: f()\nf()",
        "class E(Exception):\n    def __str__(self):\n        raise E\nraise E",
        "raise OSError(2, 'no', 'file')",
        "import builtins; hookimpl = None",
        "register_models = register_datasets = None",
        "# only a comment",
        "open('nowhere/to/be/found')",
        "raise GeneratorExit",
        "del hookimpl",
    ]
    line = rng.choice(lines).encode()
    return rng.choice([line + b"\n" + content, content + b"\n" + line + b"\n"])


EVERYWHERE: list[Damage] = [
    truncated, emptied, flipped, flipped, lengthened, digit, digit, other_run, other_run,
    other_kind, removed, folder, link_to_itself, broken_link, unreadable, random_bytes, pickled,
    zipped, enormous,
]  # fmt: skip
BINARY: list[Damage] = [flipped_at_the_end] * 4
TEXT: list[Damage] = [nested, other_bytes, other_bytes, other_value, other_value]


def damages(path: Path) -> list[Damage]:
    """What may happen to a file of its kind."""
    if path.suffix == ".py":
        return [*EVERYWHERE, *[other_bytes] * 6, *[other_code] * 10]
    if path.suffix in (".json", ".yaml"):
        return [*EVERYWHERE, *TEXT, *TEXT]
    return [*EVERYWHERE, *BINARY]


def root_of(path: Path) -> Path:
    """The workspace that the file is in."""
    return next(place for place in path.parents if (place / "dvc.yaml").exists())


def usable(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def finished(folder: Path) -> Path:
    """A workspace of the runs, after `dvc repro`."""
    trial = Trial(prepared(folder / "base/workspace", RUNS, SEEDS).folder, folder / "run")
    if trial.repro()[0]:
        raise RuntimeError(trial.said())
    return trial.workspace.folder


class FileTrials:
    """Trials of one damaged file and one reader each, in this process."""

    def __init__(self, seed: int, folder: Path, finished: Path) -> None:
        """Copy a finished workspace twice: to be damaged, and to be gathered beside that."""
        self.seed = seed
        trial = Trial(finished, folder / "run")
        self.workspace = trial.workspace
        self.workspace.env |= {"OMP_NUM_THREADS": "1"}
        self.workspace.commit()
        self.root = self.workspace.folder
        self.other = folder / "ben"
        shutil.copytree(self.root, self.other, symlinks=True)
        self.common = folder / "common"
        self.common.mkdir()
        self.kept = {
            path: (path.read_bytes(), path.stat().st_mode)
            for path in self.files()
            if path.is_file()
        }
        self.facts = facts(self.root)
        self.reference = believed(read_results(Files(self.root)))
        self.gathered = believed(gather([self.root, self.other]))
        self.rows = [key for key in self.reference if not key.startswith(BESIDE)]
        self.compared = self.run_verb("compare", "HEAD")[1]
        self.listed = self.run_verb("list")[1]
        assert believed(read_results(Files(self.root))) == self.reference
        self.damaged = [p for p in self.kept if self.counts(p)]

    def files(self) -> Iterator[Path]:
        """All but git's."""
        for folder, names, files in os.walk(self.root):
            if folder == str(self.root):
                names.remove(".git")
            links = [name for name in names if os.path.islink(os.path.join(folder, name))]
            yield from (Path(folder, name) for name in [*files, *links])

    def counts(self, path: Path) -> bool:
        """Whether trials damage it."""
        name = self.name(path)
        places = ("results/", "runs/", "data/", "plan/", "plugins/", "params.yaml", ".aebench/")
        return (name.startswith(places) or "/files/md5/" in name) and "/locks/" not in name

    def name(self, path: Path) -> str:
        """Its place in the workspace."""
        return path.relative_to(self.root).as_posix()

    def restore(self) -> None:
        """Give every file of the workspace its content back."""
        now = set(self.files())
        for path in now - self.kept.keys():
            with contextlib.suppress(OSError):
                path.unlink()
        for path, (content, mode) in self.kept.items():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.is_symlink() or (path.exists() and path.stat().st_mode != mode):
                path.unlink()
            if not path.exists() or path.stat().st_size != len(content):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            elif path.read_bytes() != content:
                path.write_bytes(content)
            if path.stat().st_mode != mode:
                path.chmod(mode)

    def run(self, number: int) -> tuple[str, str, list[str], list[str]]:
        """The trial of that number: its kind, what was done, faults, counts."""
        rng = random.Random(f"{self.seed} files {number}")
        path = self.choose(rng)
        content = self.kept[path][0]
        reader = rng.choice(self.readers(path))
        how = rng.choice(damages(path))
        self.restore()
        new = how(rng, path, content)
        if new is not None:
            path.write_bytes(new)
        name = self.name(path)
        kind = kind_of(name)
        what = f"{name} {how.__name__}, read by {' '.join(reader)}"
        same = new == content
        faults, said = self.judged(path, reader)
        if same:
            faults = [f"undamaged: {fault}" for fault in faults]
        executed = list(self.root.parent.rglob("executed"))
        for found in executed:
            found.rmdir()
            faults.append("what was pickled was executed")
        return kind, what, faults, said

    def choose(self, rng: random.Random) -> Path:
        """A file; each kind as often, whatever its number of files."""
        kinds: dict[str, list[Path]] = collections.defaultdict(list)
        for path in self.damaged:
            kinds[kind_of(self.name(path))].append(path)
        weights = [3 if kind.startswith(("results", "runs", "params")) else 2 for kind in kinds]
        return rng.choice(kinds[rng.choices([*kinds], weights)[0]])

    def readers(self, path: Path) -> list[list[str]]:
        """What may read the file, what does more often; what takes long less often."""
        name = self.name(path)
        parts = path.relative_to(self.root).parts
        run, seed = ("tiny", "0")
        if parts[0] in ("results", "runs") and len(parts) > 3:
            run, seed = parts[1:3]
        elif parts[0] == "plan" and len(parts) > 2:
            run = parts[1]
        elif parts[0] == "plugins":
            run = path.stem if f"{path.stem} 0" in self.rows else "tiny"
        look = [["results"]] * 6 + [["gather"]] * 4
        every = [["plan", "--check"], ["list"], ["load", run, seed], ["report"], ["plan"]]
        every += [["prepare"], ["train", run, seed], ["encode", run, seed], ["knn", run, seed]]
        every += [["stress", run, "0"], ["codecs"]]
        every += [["compare", "HEAD"], ["report", "--results", str(self.root), str(self.other)]]
        own: list[list[str]] = []
        if parts[0] == "data":
            own = [["train", run, seed], ["encode", run, seed], ["knn", run, seed], ["prepare"]] * 4
        elif parts[0] == "runs":
            stage = "encode" if path.suffix == ".safetensors" else "knn"
            own = [[stage, run, seed]] * 8 + [["load", run, seed]] * 8 + [["stress", run, "0"]] * 4
        elif parts[0] == "results":
            own = look * 3 + [["report"]]
        elif parts[0] == "plan":
            stage = path.stem
            own = look + [["load", run, seed]] * 3 + [["plan", "--check"], ["plan"]] * 3
            call = [stage, run, seed] if len(parts) > 2 else [stage]
            own += [call] * 6 if stage in STAGES else []
        elif parts[0] == "plugins":
            own = [["plan"], ["plan", "--check"], ["list"]] * 6 + [["load", run, seed]] * 2
            own += [["train", run, seed], ["encode", run, seed], ["prepare"]]
        elif name == "params.yaml":
            own = [["plan"], ["plan", "--check"]] * 20 + [["list"]] * 6
        elif parts[0] == ".aebench":
            own = [["plan"], ["plan", "--check"], ["list"]] * 5
        elif parts[0] == ".dvc":
            return [["compare", "HEAD"]]
        return [*own, *every, ["verify", run, seed]] if len(own) % 7 else [*own, *every]

    def load(self, run: str, seed: int) -> bytes:
        """The codes of some images by what `aebench.load` gives."""
        import torch

        import aebench

        images = np.load(self.other / "data/prepared/test_images.npy")[:8]
        with torch.no_grad():
            model = aebench.load(run, seed, self.root)
            return model.encoder(torch.from_numpy(images).float().div(255)).numpy().tobytes()

    def run_verb(self, *arguments: str) -> tuple[int, str, str]:
        """Status, output and errors of `aebench`, in this process."""
        workspace = Workspace(self.common if "--results" in arguments else self.root)
        workspace.env = self.workspace.env
        done = workspace.in_process(arguments)
        return done.returncode, done.stdout, done.stderr

    def judged(self, path: Path, reader: list[str]) -> tuple[list[str], list[str]]:
        """Faults, and what happened, of a reader of the damaged file."""
        verb, *rest = reader
        signal.signal(signal.SIGALRM, hang)
        signal.alarm(SECONDS)
        try:
            with quick_pictures(), in_this_process():
                return self.outcome(path, verb, rest)
        except AebenchError as error:
            return message_faults(str(error), self.name(path)), ["refused"]
        except OSError as error:
            if is_machine_failure(error):  # which the command line says in a line
                return message_faults(f"mend {error}", self.name(path)), ["refused"]
            return [f"traceback: {error!r}"], ["traceback"]
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "/aebench/" in f.filename] or frames
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            words = str_of(error).splitlines()[0][:120] if str_of(error) else ""
            return [f"traceback: {type(error).__name__} at {where}: {words}"], ["traceback"]
        finally:
            signal.alarm(0)

    def outcome(self, path: Path, verb: str, rest: list[str]) -> tuple[list[str], list[str]]:
        """As `judged`, of a reader that raises what it raises."""
        name = self.name(path)
        if verb == "load":
            if self.load(rest[0], int(rest[1])) != self.load_reference(rest[0], int(rest[1])):
                return ["load: other codes without a word"], ["read"]
            return [], ["read"]
        if verb == "results":
            return self.shown(read_results(Files(self.root)), self.reference, name), ["read"]
        if verb == "gather":
            found = gather([self.root, self.other])
            return self.shown(found, self.gathered, name), ["read"]
        before = set(self.root.rglob("*.part"))
        status, out, err = self.run_verb(verb, *rest)
        faults = []
        if set(self.root.rglob("*.part")) - before:
            faults.append("left a .part")
        if status not in (0, 1):
            faults.append(f"exit status {status}: {err[:200]}")
        strange = [s for s in err.splitlines() if s.strip() and not s.startswith("aebench: ")]
        if strange and verb not in ("compare", "train", "encode"):  # DVC's and plug-ins' words
            faults.append(f"says on stderr: {strange[0][:150]!r}")
        if status == 1:
            errors = [s for s in err.splitlines() if s.startswith("aebench: error: ")]
            many = name == "params.yaml" or name.startswith("plugins/")
            if len(errors) != 1 and not (errors and many):
                faults.append(f"{len(errors)} lines of error: {err[:300]!r}")
            if errors:
                faults += message_faults("\n".join(errors), name)
            return [*faults, *self.afterwards(path, verb, rest, False)], ["refused"]
        if verb == "compare" and out != self.compared:
            why = ("not shown", "hidden", "run `dvc repro`", "no result", "without effect on")
            if not any(words in out for words in (name.split("/")[-1], *why)):
                other = first_other(out, self.compared)
                faults.append(f"compare says something else without a word: {other}")
        gone = path.suffix == ".py" and not path.is_file()  # it is no plug-in any more
        if verb == "list" and out != self.listed and name not in out + err and not gone:
            faults.append(f"list says something else: {first_other(out, self.listed)}")
        if verb == "report" and "--results" not in rest:
            text = (self.root / "reports/report.md").read_text()
            faults += self.shown(read_results(Files(self.root)), self.reference, name)
            for run, seed in self.missing(read_results(Files(self.root))):
                if f"{run}, seed {seed}" not in text:
                    faults.append(f"report.md does not say why {run}, seed {seed} is not shown")
        return [*faults, *self.afterwards(path, verb, rest, True)], ["read"]

    def load_reference(self, run: str, seed: int) -> bytes:
        """Of the undamaged copy."""
        root, self.root = self.root, self.other
        try:
            return self.load(run, seed)
        finally:
            self.root = root

    def missing(self, found: Results) -> list[tuple[str, int]]:
        there = {(result.run, result.seed) for result in found.results}
        rows = [(run, int(seed)) for run, seed in map(str.split, self.rows)]
        return [row for row in rows if row not in there]

    def shown(self, found: Results, reference: dict[str, Any], name: str) -> list[str]:
        """Faults of what was read: other figures, or rows that are not there without a word."""
        now = believed(found)
        gone = not (self.root / name).is_file()
        faults = []
        for key, value in now.items():
            if key not in reference:
                faults.append(f"shows {key}, which is not there")
            elif value != reference[key] and not (
                lacks_pictures(value, reference[key], gone)
                or lacks_stress(value, reference[key], gone or tells_of_stress(found, key))
            ):
                faults.append(f"{key} without a word: {first_difference(value, reference[key])}")
        for key in reference.keys() - now.keys():
            run, _, seed = key.partition(" ")
            words = f"{run}, seed {seed}"
            starts = words, "all of", "the images", "the shown", "near-dup", "JPEG and WebP"
            if gone and run in ("sprite", "codecs") and name.startswith(f"results/{run}."):
                continue  # as of an earlier version
            about = [text for text in found.hidden if text.startswith(starts)]
            if not about:
                faults.append(f"{key} is not shown, without a word")
            elif "`" not in about[0] and not about[0].startswith("all of"):
                faults.append(f"hidden without a command: {about[0][:200]}")
        return faults

    def afterwards(self, path: Path, verb: str, rest: list[str], ended: bool) -> list[str]:
        """Faults of what a verb has written, once the damaged file is whole again."""
        if verb not in (*STAGES, "plan"):
            return []
        name = self.name(path)
        changed = facts_of_outs(self.root, verb, rest)
        wanted = {k: self.facts.get(k) for k in changed}
        faults = []
        legal = name.startswith(("plan/", "plugins/", "params.yaml"))
        if ended and not legal and changed != wanted and verb != "plan":
            other = [k for k in changed if changed[k] != wanted[k] and k != name]
            if other:
                faults.append(f"ended with 0 and wrote other content: {', '.join(other[:4])}")
        content, mode = self.kept[path]
        whole = path.is_file() and not path.is_symlink() and path.read_bytes() == content
        if not whole and not (ended and name in changed):
            self.whole_again(path)
        try:
            now = read_results(Files(self.root))
        except AebenchError:
            return faults  # nothing is shown
        for key, value in believed(now).items():
            if key in self.reference and steady(value) != steady(self.reference[key]):
                what = first_difference(steady(value), steady(self.reference[key]))
                faults.append(f"and then shows {key} without a word: {what}")
        return faults

    def whole_again(self, path: Path) -> None:
        """The one file as it was."""
        content, mode = self.kept[path]
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        path.write_bytes(content)
        path.chmod(mode)


def hang(number: int, frame: Any) -> None:
    raise Hang(f"not ended after {SECONDS} s")


def str_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "no text"


@contextlib.contextmanager
def quick_pictures() -> Iterator[None]:
    """Reports without drawn pictures: 0.3 s instead of 3; their data are compared."""
    with (
        mock.patch("aebench.report.drawing.png", lambda picture: b"png"),
        mock.patch("aebench.report.page.page", lambda *_: b"page"),
    ):
        yield


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """`verify` calls the stages here: no interpreter has to start."""

    def call(folder: Path, arguments: list[str], threads: int = 1) -> None:
        workspace = Workspace(folder)
        workspace.env = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
        done = workspace.in_process(tuple(arguments))
        if done.returncode:
            raise AebenchError(done.stderr.removeprefix("aebench: error: ").strip())

    with mock.patch("aebench.commands.verify.call", call):
        yield


def kind_of(name: str) -> str:
    """`results/tiny/0/knn.json` -> `results knn.json`."""
    parts = name.split("/")
    if "/files/md5/" in name:
        return "DVC's cache"
    if parts[0] == "plugins":
        return "plug-ins"
    return parts[0] if len(parts) == 1 else f"{parts[0]} {parts[-1]}"


def believed(found: Results) -> dict[str, Any]:
    """`run seed` -> all that is known of a shown result; `data` -> what is shown beside them."""
    fields = dataclasses.fields(found.results[0]) if found.results else ()
    names = [field.name for field in fields if field.name != "source"]
    rows = {
        f"{result.run} {result.seed}": {name: plain(getattr(result, name)) for name in names}
        for result in found.results
    }
    for row in rows.values():  # where the same was found
        row["columns"] = {k: v for k, v in row["columns"].items() if k != "source"}
    data = {"record": found.data.model_dump(), "originals": plain(found.originals)}
    data |= {"sprite": found.sprite, "near": found.near and [*map(plain, found.near)]}
    if found.codecs:
        record, errors = found.codecs
        data["codecs"] = [record.model_dump(exclude={*ELSEWHERE}), plain(errors)]
    known = {k: v for k, v in data.items() if k == "record" or v is not None}
    return (
        rows
        | {"data 0": {"record": known["record"]}}
        | {f"{k} 0": {k: v} for k, v in known.items() if k != "record"}
    )


def plain(value: Any) -> Any:
    """Arrays as bytes with their kind."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return value


def lacks_pictures(value: dict[str, Any], wanted: dict[str, Any], gone: bool) -> bool:
    """Whether it is the same without pictures, whose file is not there."""
    optional = {k for k in ("examples", "worst", "code_map") if k in value and value[k] is None}
    return gone and value == wanted | dict.fromkeys(optional)


def tells_of_stress(found: Results, key: str) -> bool:
    """Whether it is said why the figures of that stage are not shown."""
    run, _, _ = key.partition(" ")
    return any(text.startswith(f"{run}, stress") for text in found.hidden)


def lacks_stress(value: dict[str, Any], wanted: dict[str, Any], told: bool) -> bool:
    """Whether it is the same without what one stage says, of which something is told."""
    if not told or not wanted.get("stress"):
        return False
    columns = {k: v for k, v in wanted["columns"].items() if k not in wanted["stress"].columns}
    unread = value["unread"]
    return value == wanted | {"stress": None, "columns": columns, "unread": unread}


def steady(value: dict[str, Any]) -> dict[str, Any]:
    """What is the same in each repetition."""
    found = {k: v for k, v in value.items() if k != "epoch_seconds"}
    if "columns" in found:
        columns = found["columns"].items()
        found["columns"] = {k: v for k, v in columns if not CHANGING.search(k) and k not in PLACES}
    if "record" in found:
        found["record"] = {k: v for k, v in found["record"].items() if k not in ELSEWHERE}
    if found.get("stress"):
        found["stress"] = found["stress"].model_dump(exclude={*ELSEWHERE})
    return found


def first_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    for key in one:
        if one[key] != other.get(key):
            if isinstance(one[key], dict) and isinstance(other.get(key), dict):
                return f"{key}.{first_difference(one[key], other[key])}"
            return f"{key}: {str(one[key])[:60]} instead of {str(other.get(key))[:60]}"
    return "fewer keys"


def first_other(one: str, other: str) -> str:
    """The first line that differs."""
    pairs = zip(one.splitlines(), other.splitlines(), strict=False)
    return next((f"{a[:90]!r} for {b[:90]!r}" for a, b in pairs if a != b), "more or fewer lines")


def facts_of_outs(root: Path, verb: str, rest: list[str]) -> dict[str, str | None]:
    """What the stage has written, as `facts` has it."""
    try:
        found = facts(root)
    except (OSError, ValueError, RecursionError):
        return {}
    if verb == "prepare":
        places = ("data/", "results/data.json", "results/examples.npy", "results/sprite.webp")
        places += ("results/near_duplicates.npy",)
        return {k: v for k, v in found.items() if k.startswith(places)}
    run = "/".join(rest)
    if verb == "codecs":
        return {k: v for k, v in found.items() if k.startswith("results/codecs.")}
    names = {
        "train": [f"runs/{run}/weights.safetensors", f"results/{run}/train.json"],
        "encode": [f"runs/{run}/{s}_codes.npy" for s in ("train", "test")]
        + [f"results/{run}/{n}" for n in ("encode.json", "squared_errors.npy", "examples.npy")]
        + [f"results/{run}/{n}" for n in ("metrics.npy", "worst.npy", "code_map.npy")],
        "knn": [f"results/{run}/{n}" for n in ("knn.json", "outcomes.npy")],
        "stress": [f"results/{run}/stress.json"],
    }.get(verb, [])
    return {name: found.get(name) for name in names}


COMMAND = re.compile(r"`[^`]*(aebench|dvc) [^`]*`|pip install|mend |dvc repro")


def message_faults(text: str, name: str) -> list[str]:
    """What is wrong with the words of an error: it names the file and a command."""
    faults = []
    known = Path(name).name in text or Path(name).stem in text
    known |= "has no result of seed" in text  # of a record that is not there
    known |= name.startswith("plan/") and "of another plan" in text
    known |= name.startswith("plan/") and "not of the model that" in text  # of another run's plan
    known |= name.startswith("plan/") and "registers no model" in text  # whose name is another
    known |= "_codes.npy" in name and "_codes.npy" in text  # one hash is of both
    if not known and "/md5/" not in name:
        faults.append(f"does not name {name}: {text[:200]!r}")
    if text.endswith("; load that seed"):  # before any file of this one is looked at
        return []
    users_own = name == "params.yaml" or name.startswith("plugins/")  # the words say what to mend
    if not users_own and not COMMAND.search(text):
        faults.append(f"names no command: {text[:200]!r}")
    return faults
