"""Bring what the farm computed into the workspace, and its experiments' into theirs."""

from collections.abc import Iterator

from ruamel.yaml import YAML

from aebench.farm.suites import RUNNING, Store, Suite, dvc
from aebench.workspace import Workspace

EXPECTED = {"plan", "report"}  # what is left to compute


def finish(workspace: Workspace, suites: list[Suite], store: Store) -> list[str]:
    """`dvc repro`, and the experiments of DVC's queue; what else they had to compute, and why."""
    whole, *experiments = suites
    forget(workspace, {target for chain in whole.chains for target in chain.targets})
    print("dvc repro ...", flush=True)
    remarks = list(unexpected(workspace, whole, dvc(workspace, "repro", *store.pull)))
    if experiments:
        print("dvc exp run --run-all ...", flush=True)
        dvc(workspace, "exp", "run", "--run-all", *store.pull)
    for suite in experiments:
        said = dvc(workspace, "queue", "logs", suite.name)
        remarks += unexpected(workspace, suite, said)
    return remarks


def unexpected(workspace: Workspace, suite: Suite, said: str) -> Iterator[str]:
    """A line for each stage that DVC ran and had no need to. `said`: its output."""
    of = f"experiment {suite.name}: " if suite.name else ""
    for stage in RUNNING.findall(said):
        if stage in EXPECTED:
            continue
        name, _, of_run = stage.partition("@")
        run = of_run.rpartition("-")[0]
        path = f"{run}/{name}.json" if run else "data.json"
        then, now = suite.copy.plan / path, workspace.plan / path
        if not suite.name and then.is_file() and then.read_bytes() != now.read_bytes():
            why = "settings, plug-ins or aebench changed while the farm computed"
        else:
            why = "its result did not come back: is the cache or the remote whole?"
        yield f"{of}{stage} ran here: {why}"


def forget(workspace: Workspace, stages: set[str]) -> None:
    """Take the stages out of dvc.lock, whose earlier outs are nowhere.

    Where their settings are still those, `dvc repro --pull` would look for these outs alone, and
    not for those that have just been computed.
    """
    path = workspace.root / "dvc.lock"
    if not stages or not path.is_file():
        return
    yaml = YAML()
    yaml.width = 4096
    content = yaml.load(path.read_bytes())
    known = content.get("stages", {}).keys() & stages
    if known:
        for stage in known:
            del content["stages"][stage]
        with path.open("wb") as file:
            yaml.dump(content, file)
