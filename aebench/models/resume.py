"""Keep a long training from being lost: its state in a file, from which a killed one goes on."""

import contextlib
import errno
import glob
import hashlib
import itertools
import json
import math
import os
import shutil
import sys
import time
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from aebench.errors import AebenchError, first_line
from aebench.outs import Outs
from aebench.plugins import warn_once
from aebench.workspace import Workspace, file_hash, sha256

if TYPE_CHECKING:
    from aebench.models.group import Group
    from aebench.models.snapshot import State

FIRST, INTERVAL = 600.0, 300.0  # seconds of a training before its first checkpoint, between two
# Of the time: that of writing. 3 MB and 0.04 s for the cnn, 39 MB and 0.15 s for the mlp, 1.2 GB
# and 5.4 s for 100 million parameters (2-core Intel Xeon, Sapphire Rapids, others at work).
SHARE = 0.02
EVERY = 32  # steps, after which several processes agree whether it is time
BLOCK = 1 << 20  # bytes
SHA256 = 32  # bytes, the file's last ones: of all before


class Resume:
    """The checkpoint of one training: of these settings, code, data and seed, on this machine.

    Whatever is wrong with it is said in a line, and the training begins again: it neither fails
    nor ends in other bits. `due`: when (`time.perf_counter`) the next one is to be written;
    `resumed`: how often the training has gone on from one.
    """

    def __init__(
        self,
        workspace: Workspace,
        plan_hash: str,
        data_hash: str,
        seed: int,
        sources: Collection[Path],
    ) -> None:
        """`plan_hash`: of settings and code; `sources`: the plug-in's files."""
        self.folder = folder_of(workspace)
        self.plan_hash = plan_hash
        self.key = [plan_hash, data_hash, seed]
        self.sources = sources
        self.path: Path | None = None  # where training is by the recipe
        self.due, self.resumed = math.inf, 0
        self.before: dict[str, Any] = {}  # State.elsewhere

    def begin(self, state: "State") -> None:
        """Go on from the checkpoint, where there is one, in place. AebenchError: see `put_back`."""
        try:
            self.before = state.elsewhere(modules_of(self.sources))
            key = sha256(json.dumps([*self.key, state.machine()], default=str).encode())
            self.path = self.folder / f"{start_of_name(self.plan_hash)}{key[:40]}.safetensors"
            is_there = first(state) and self.path.is_file()
            facts = self.facts(state) if is_there else None
        except Exception as error:
            warn_once(f"{self.path or 'no checkpoint'}: {reason(error)}; the training begins anew")
            facts = None
        if group := state.stream.group:  # one of them read it, for all
            facts = group.gathered(facts)[0]
        if facts is not None:
            self.put_back(state, facts)
        if self.path:
            self.due = time.perf_counter() + (FIRST if facts is None else INTERVAL)

    def is_due(self, step: int, group: "Group | None") -> bool:
        """Whether it is time for a checkpoint after that step: of a group in all or in none."""
        if group is None:
            return time.perf_counter() >= self.due  # 0.1 us a step
        return step % EVERY == 0 and group.gathered(time.perf_counter() >= self.due)[0]

    def facts(self, state: "State") -> dict[str, Any]:
        """State.facts of the file. ValueError where it is damaged or does not fit."""
        assert self.path
        whole = hashlib.sha256()
        left = self.path.stat().st_size - SHA256
        with self.path.open("rb") as file:
            while left > 0 and (block := file.read(min(left, BLOCK))):
                whole.update(block)
                left -= len(block)
            if left or file.read() != whole.digest():
                raise ValueError("damaged")
        with safetensors.safe_open(self.path, framework="numpy") as file:
            facts = json.loads(file.get_tensor("facts").tobytes())
        then, now = facts["versions"], versions()
        if other := [name for name in then.keys() & now.keys() if then[name] != now[name]]:
            raise ValueError(f"of another version of {', '.join(sorted(other))}")
        if facts["layout"] != state.layout():
            raise ValueError("of a model that was built otherwise")
        return facts

    def put_back(self, state: "State", facts: dict[str, Any]) -> None:
        """Take over the file's content; say at which step the training goes on.

        AebenchError where that ends half-way: what fits does not, so the machine is to blame.
        """
        group = state.stream.group
        try:
            if first(state):
                assert self.path
                with safetensors.safe_open(self.path, framework="numpy") as file:
                    state.put_back(file.get_tensor)
            state.go_on(facts["others"][group.rank - 1] if group and group.rank else facts)
        except Exception as error:
            if first(state):
                self.remove()
            text = f"{self.path}: was not put back ({reason(error)}) and is removed"
            raise AebenchError(f"{text}; run `dvc repro` again") from None
        if group:
            group.share(state.tensors().values())
        self.resumed = facts["resumed"] + 1
        stream = state.stream
        epoch, epochs = len(stream.curve) + 1, stream.recipe.epochs
        print(f"resumed at epoch {epoch}/{epochs}, step {stream.given}", flush=True)

    def save(self, state: "State") -> None:
        """Write a checkpoint, if one can be gone on from."""
        start = time.perf_counter()
        facts: dict[str, Any] = {}
        try:
            fault, facts = self.fault(state), state.facts()
        except Exception as error:
            fault = reason(error)
        if group := state.stream.group:
            found = group.gathered((fault, facts))
            fault = next((one for one, _ in found if one), None)
            facts = facts | {"others": [others for _, others in found[1:]]}
        if fault:
            warn_once(f"no checkpoint: {fault}; once killed, the training begins again")
            self.due = math.inf
            return
        try:
            if first(state):
                self.write(state, facts)
        except Exception as error:
            warn_once(f"no checkpoint: {reason(error)}")
        end = time.perf_counter()
        self.due = end + max(INTERVAL, (end - start) / SHARE)

    def fault(self, state: "State") -> str | None:
        """What no checkpoint would hold, or could put back."""
        now = state.elsewhere(modules_of(self.sources))
        for name in [*self.before, *now]:
            if self.before.get(name) != now.get(name):
                return f"{name} changes in training; allowed: buffers (register_buffer)"
        return state.odd()

    def write(self, state: "State", facts: dict[str, Any]) -> None:
        """The file, whole or not at all. OSError where that cannot be."""
        assert self.path
        about = facts | {"resumed": self.resumed, "versions": versions()}
        told = json.dumps(about).encode()
        sizes = {"facts": len(told)} | {name: t.nbytes for name, t in state.tensors().items()}
        # safetensors' own form, written by hand: one tensor at a time, however many there are, as
        # a copy of all could be what the machine's memory has no room for.
        header: dict[str, Any] = {}
        end = 0
        for name, size in [*sizes.items(), ("sha256", SHA256)]:
            header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < 2 * end:  # the weights have to find room, too
            raise OSError(errno.ENOSPC, "the disk is almost full", str(self.folder))
        with Outs(alone=True) as outs:
            file = outs.open(self.path)
            parts = (len(text).to_bytes(8, "little"), text, told)
            for part in itertools.chain(parts, state.values()):
                file.write(part)
            file.write(bytes.fromhex(file.hash))

    def files(self) -> list[Path]:
        """The checkpoint, and what was begun of it."""
        if self.path is None:
            return []
        return [self.path, *self.folder.glob(f".{glob.escape(self.path.name)}.*")]

    def remove(self) -> None:
        """It is of no use."""
        with contextlib.suppress(OSError):
            for path in self.files():
                path.unlink(missing_ok=True)


def first(state: "State") -> bool:
    """Whether this process is the one that keeps the file."""
    return state.stream.group is None or state.stream.group.rank == 0


def reason(error: Exception) -> str:
    """In one line; of what is not expected here with its kind."""
    kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    return f"{kind}{first_line(error)}"


def modules_of(sources: Collection[Path]) -> Iterator[types.ModuleType]:
    """Python's modules of these files."""
    files = {str(path.resolve()) for path in sources}
    names = {path.name for path in sources}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and os.path.basename(file) in names and os.path.realpath(file) in files:
            yield module


def versions() -> dict[str, str]:
    """Of the packages that are imported."""
    found = {}
    for name, module in list(sys.modules.items()):
        version = getattr(module, "__dict__", {}).get("__version__")
        if "." not in name and isinstance(version, str):
            found[name] = str(version)
    return found


def folder_of(workspace: Workspace) -> Path:
    """Where the checkpoints of a workspace lie."""
    return workspace.root / ".aebench" / "checkpoints"


def start_of_name(plan_hash: str) -> str:
    """What the names of all checkpoints of a plan begin with."""
    return f"{plan_hash[:24]}-"


def leftovers(workspace: Workspace) -> list[Path]:
    """The checkpoints, whole or begun, that no plan of the workspace would ever go on from."""
    plans = {start_of_name(file_hash(path)) for path in workspace.plan.glob("*/train.json")}
    files = sorted(path for path in folder_of(workspace).glob("*") if path.is_file())
    return [path for path in files if not path.name.lstrip(".").startswith(tuple(plans))]
