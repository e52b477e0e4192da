"""Bring what the farm computed into the workspace, and its experiments' into theirs."""

from collections.abc import Iterator

from ruamel.yaml import YAML

from aebench.farm.suites import DECLINING, RUNNING, Store, Suite, dvc
from aebench.workspace import Workspace

EXPECTED = {"plan", "report", "stress", "index", "codecs"}  # what is left to compute


def finish(workspace: Workspace, suites: list[Suite], store: Store) -> list[str]:
    """`dvc repro`, and the experiments of DVC's queue; what else they had to compute, and why.

    With a remote, results go through the copies first: these share the workspace's cache, and in
    the workspace the remote need not be the one that DVC takes.
    """
    for suite in suites if store.remote else ():
        forget(suite)
        dvc(suite.copy, "repro", "-k", "--pull", env={DECLINING: "1"}, ok=False)
    print("dvc repro ...", flush=True)
    remarks = list(unexpected(workspace, suites[0], dvc(workspace, "repro", told=True)))
    if suites[1:]:
        print("dvc exp run --run-all ...", flush=True)
        dvc(workspace, "exp", "run", "--run-all")
    for suite in suites[1:]:
        remarks += unexpected(workspace, suite, dvc(workspace, "queue", "logs", suite.name))
    return remarks


def unexpected(workspace: Workspace, suite: Suite, said: str) -> Iterator[str]:
    """A line for each stage that DVC ran and had no need to. `said`: its output."""
    of = f"experiment {suite.name}: " if suite.name else ""
    for stage in RUNNING.findall(said):
        name, _, of_run = stage.partition("@")
        if name in EXPECTED:
            continue
        run = of_run.rpartition("-")[0]
        path = f"{run}/{name}.json" if run else "data.json"
        then, now = suite.copy.plan / path, workspace.plan / path
        if not suite.name and then.is_file() and then.read_bytes() != now.read_bytes():
            why = "settings, plug-ins or aebench changed while the farm computed"
        else:
            why = "its result did not come back: is the cache or the remote whole?"
        yield f"{of}{stage} ran here: {why}"


def forget(suite: Suite) -> None:
    """Take the chains out of the copy's dvc.lock: their earlier outs may be nowhere.

    Where their settings are still those, DVC would look for these outs alone, and not for those
    that have just been computed.
    """
    path = suite.copy.root / "dvc.lock"
    if path.is_file():
        yaml = YAML()
        content = yaml.load(path.read_bytes())
        for chain in suite.chains:
            for stage in chain.targets:
                content.get("stages", {}).pop(stage, None)
        with path.open("wb") as file:
            yaml.dump(content, file)
