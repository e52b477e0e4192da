"""What is to be computed: stale chains of the workspace and of its queued experiments.

DVC says which, in a copy: it makes plan and images there, restores what its cache has of earlier
results, and what is left it asks of `aebench`, which declines.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from aebench.errors import AebenchError
from aebench.farm.snapshot import Snapshot, laid_out, places, taken
from aebench.params import read_params
from aebench.workspace import PER_RUN, Workspace, data_root, sha256

DECLINING = "AEBENCH_DECLINE"  # in the environment: the verbs that compute decline to
RUNNING = re.compile(r"^Running stage '(?:.*:)?([^':]+)':", re.MULTILINE)
STOPPED = re.compile(r"failed to reproduce '(?:.*:)?([^':]+)'")
CHAIN = re.compile(r"(train|encode|knn)@(.+)-(\d+)")
# Links: a copy's images and codes take no room. DVC copies where there are none.
LINKS = "reflink,symlink,hardlink,copy"


@dataclass(frozen=True)
class Chain:
    """The stages of a run and seed that must be computed, in their order, and those before them."""

    suite: str  # "" the workspace, or an experiment's name
    run: str
    seed: int
    stages: tuple[str, ...]  # of PER_RUN, the last ones
    key: str  # the same for the same plan and images, whoever asks
    training: str  # likewise, of the training alone

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.suite + ': ' if self.suite else ''}{self.run} {self.seed}"

    @property
    def given(self) -> list[str]:
        """DVC's names of the stages whose outs it begins with."""
        before = PER_RUN[: len(PER_RUN) - len(self.stages)]
        return ["prepare", *(f"{stage}@{self.run}-{self.seed}" for stage in before)]

    @property
    def targets(self) -> list[str]:
        """DVC's names of its stages."""
        return [f"{stage}@{self.run}-{self.seed}" for stage in self.stages]


@dataclass
class Suite:
    """A workspace, or a queued experiment of it, as it is when the farm starts."""

    name: str
    copy: Workspace  # after `prepare`
    snapshot: Snapshot  # of that copy
    chains: list[Chain]


@dataclass(frozen=True)
class Store:
    """How results travel: through DVC's cache, which all see, or through a remote."""

    cache: str
    remote: str | None = None  # its name
    url: str | None = None

    @property
    def pull(self) -> list[str]:
        """For `dvc repro`."""
        return ["--pull"] if self.remote else []

    def bind(self, copy: Workspace, cache: bool) -> None:
        """Let DVC use it in the copy; `cache`: this machine's, too."""
        if cache:
            dvc(copy, "cache", "dir", "--local", self.cache)
        dvc(copy, "config", "--local", "cache.type", LINKS)
        if self.remote and self.url:
            dvc(copy, "remote", "add", "--local", "-f", self.remote, self.url)
        if self.remote:
            dvc(copy, "remote", "default", "--local", self.remote)


def store(workspace: Workspace, remote: str | None) -> Store:
    """That of the workspace. `remote`: a name that DVC knows, or an address.

    AebenchError for another one, and without git or DVC.
    """
    places(workspace.root.absolute())
    cache = os.path.abspath(dvc(workspace, "cache", "dir").strip())
    if remote is None:
        return Store(cache)
    rows = [line.split() for line in dvc(workspace, "remote", "list").splitlines()]
    known = {row[0]: row[1] for row in rows if len(row) > 1}
    if remote not in known and not re.search(r"[/\\:]", remote):
        raise AebenchError(
            f"--remote: got {remote!r}; allowed: one that DVC knows "
            f"({', '.join(known) or 'none'}; dvc remote add NAME URL), an address, a folder"
        )
    url = known.get(remote, remote)
    if url.startswith(("http://", "https://")):
        raise AebenchError(
            f"--remote: got {url}; allowed: any but http(s), of which DVC brings no results "
            "that are not in dvc.lock yet"
        )
    if remote in known:
        local = url if os.path.isabs(url) else None  # a relative one is another in a copy
        return Store(cache, remote, local)
    return Store(cache, "aebench-farm", url if "://" in url else os.path.abspath(url))


@contextlib.contextmanager
def copies(workspace: Workspace) -> Iterator[Path]:
    """A folder for copies, which is removed at the end; what was left of a kill is removed, too."""
    folder = workspace.root.absolute() / ".aebench" / "farm"
    shutil.rmtree(folder, ignore_errors=True)
    own = folder / str(os.getpid())
    own.mkdir(parents=True)
    try:
        yield own
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(cache: str) -> None:
    """Remove the empty folders of DVC's run-cache, of which it says: join() argument must be str.

    They are left where DVC is killed while it writes an entry, or where another one reads this: it
    takes it for damaged and removes it. A folder that is being written is empty for microseconds.
    """
    for folder in Path(cache, "runs").glob("*/*"):
        with contextlib.suppress(OSError):  # not empty, or another has removed it
            if time.time() - folder.stat().st_mtime > 2:
                folder.rmdir()


def found(workspace: Workspace, folder: Path, store: Store) -> list[Suite]:
    """The workspace and its queued experiments. AebenchError as of `aebench plan` and `prepare`."""
    sweep(store.cache)
    suites = [suite(workspace, "", None, folder, store)]
    for name, commit in queued(workspace):
        try:
            suites.append(suite(workspace, name, commit, folder, store))
        except AebenchError as error:
            advice = f"mend it, or: dvc queue remove {name}"
            raise AebenchError(f"queued experiment {name}: {error}; {advice}") from None
    return suites


def queued(workspace: Workspace) -> list[tuple[str, str]]:
    """Name and commit of each experiment that waits in DVC's queue, the oldest first."""
    if "Queued" not in dvc(workspace, "queue", "status"):
        return []
    shown = json.loads(dvc(workspace, "exp", "show", "--json", "--no-pager"))
    pairs = [
        (experiment["name"] or revision["rev"][:7], revision["rev"])
        for baseline in shown
        for experiment in baseline.get("experiments") or []
        if (experiment.get("executor") or {}).get("state") == "queued"
        for revision in experiment["revs"]
    ]
    return pairs[::-1]


def suite(workspace: Workspace, name: str, commit: str | None, folder: Path, store: Store) -> Suite:
    """Its stale chains. `commit`: of an experiment."""
    params, _ = read_params(workspace)
    weights = [run.weights for run in params.runs.values() if run.weights] if params else []
    copy = laid_out(taken(workspace, weights, commit), folder / f"suite-{name}")
    local = workspace.root / ".dvc" / "config.local"  # where passwords for remotes are
    if local.is_file():
        shutil.copy(local, copy.root / ".dvc" / "config.local")
    store.bind(copy, cache=True)
    for file in weights:
        if (copy.root / f"{file}.dvc").is_file():
            dvc(copy, *(("pull",) if store.remote else ("checkout",)), f"{file}.dvc")
    remember(workspace, copy)
    ran = asked(copy, store)
    if locked(copy).intersection(filter(CHAIN.fullmatch, ran)):
        # What it begins with may be in the cache though DVC does not remember how it was computed.
        # Not at once: DVC takes minutes to miss the results of 3,000 stages that have none yet.
        dvc(copy, "checkout", "-q", "--allow-missing", "--force")
        ran = asked(copy, store)
    remember(copy, workspace)
    stale: dict[tuple[str, int], str] = {}
    for stage in ran:
        if match := CHAIN.fullmatch(stage):
            stale.setdefault((match[2], int(match[3])), match[1])
    data = (copy.plan / "data.json").read_bytes()
    chains = []
    for (run, seed), first in stale.items():
        plans = [copy.plan_path(run, stage).read_bytes() for stage in PER_RUN]
        key, training = (
            f"chain-{sha256(data + b''.join(part))[:16]}-{run}-{seed}"
            for part in (plans, plans[:1])
        )
        stages = PER_RUN[PER_RUN.index(first) :]
        chains.append(Chain(name, run, seed, stages, key, training))
    if store.remote and chains:
        given = {target for chain in chains for target in chain.given}
        dvc(copy, "push", "-q", *sorted(given))
    return Suite(name, copy, taken(copy, weights), chains)


def asked(copy: Workspace, store: Store) -> list[str]:
    """The stages that DVC ran, or would run after `plan` and `prepare`. AebenchError as of both."""
    environment = {"AEBENCH_DATA": str(data_root()), DECLINING: "1"}
    said = dvc(copy, "repro", "-k", *store.pull, env=environment, ok=False)
    ran = RUNNING.findall(said)
    if "plan" not in ran or {"plan", "prepare"} & set(STOPPED.findall(said)):
        raise AebenchError(fault(said) or f"{copy.root}: dvc repro stopped without a word")
    return ran


def locked(copy: Workspace) -> set[str]:
    """The stages that dvc.lock knows."""
    path = copy.root / "dvc.lock"
    return set(YAML(typ="safe").load(path.read_bytes())["stages"]) if path.is_file() else set()


def remember(workspace: Workspace, other: Workspace) -> None:
    """Let the other one know what is remembered of plug-ins: its `plan` imports none again."""
    (other.root / ".aebench").mkdir(exist_ok=True)
    for name in ("code.json", "plugins.json"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(workspace.root / ".aebench" / name, other.root / ".aebench")


def dvc(
    workspace: Workspace,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    ok: bool = True,
    told: bool = False,
) -> str:
    """What `dvc` prints. AebenchError where it fails, unless it may (`ok` False).

    `told`: say what aebench warns of.
    """
    done = subprocess.run(
        ["dvc", *arguments],
        cwd=workspace.root,
        env=environment(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode and ok:
        raise AebenchError(fault(done.stderr) or f"dvc {arguments[0]} ended with {done.returncode}")
    for line in done.stderr.splitlines() if told else ():
        if line.startswith("aebench: "):
            print(line, file=sys.stderr)
    return done.stdout + done.stderr if not ok else done.stdout


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Of this process, with this Python's programs first, and without what a stage is told."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "GIT_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | dict(more)


def fault(stderr: str) -> str:
    """The line that says why: aebench's own, else DVC's first error."""
    lines = [line.strip() for line in stderr.splitlines()]
    own = [line.removeprefix("aebench: error: ") for line in lines if "aebench: error: " in line]
    theirs = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return "\n".join(own) or (theirs or lines or [""])[0]
