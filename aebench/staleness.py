"""Why stages are stale: which setting, plug-in file or module of aebench has changed."""

from collections.abc import Iterator, Mapping
from typing import Any

from aebench.errors import AebenchError
from aebench.planning import Plan
from aebench.records.encode import EncodeRecord
from aebench.records.knn import KnnRecord
from aebench.records.plan import ReportPlan, Sources, TrainPlan
from aebench.records.prepare import DataRecord
from aebench.records.record import Record
from aebench.records.train import TrainRecord
from aebench.workspace import PER_RUN, Workspace

Result = TrainRecord | EncodeRecord | KnnRecord
RECORDS: dict[str, type[Result]] = {
    "train": TrainRecord,
    "encode": EncodeRecord,
    "knn": KnnRecord,
}


def why_stale(workspace: Workspace, plan: Plan) -> list[str]:
    """A line for each stage whose result is not that of the plan, and their sum."""
    shown = plan.files[workspace.plan / "report.json"]
    assert isinstance(shown, ReportPlan)
    code = known_code(workspace) | plan.code
    results = {
        (run, seed): results_of(workspace, run, seed) for run in shown.runs for seed in shown.seeds
    }
    lines, total, untimed = [], 0.0, 0
    reason = prepare_reason(workspace, plan, code)
    if reason:
        lines.append(f"prepare: {reason}")
    for (run, seed), found in results.items():
        above = "prepare" if reason else None
        for stage in PER_RUN:
            new = plan.files[workspace.plan_path(run, stage)]
            why = f"follows {above}" if above else stage_reason(found.get(stage), new, code)
            if why is None:
                continue
            above = f"{stage}@{run}-{seed}"
            seconds = estimate(results, run, stage, new)
            total, untimed = total + (seconds or 0), untimed + (seconds is None)
            lines.append(f"{above}: {why} ({in_words(seconds)})")
    if not lines:
        return ["no result is stale"]
    unknown = f", and {untimed} without an earlier time" if untimed else ""
    return [*lines, f"{len(lines)} stages are stale: {in_words(total)}{unknown}"]


def in_words(seconds: float | None) -> str:
    """`about 12 s`, `about 3.4 min`; None: not known."""
    if seconds is None:
        return "no earlier time"
    return f"about {seconds:.0f} s" if seconds < 60 else f"about {seconds / 60:.1f} min"


def results_of(workspace: Workspace, run: str, seed: int) -> dict[str, Result]:
    """Stage -> its result, of those that can be read."""
    found: dict[str, Result] = {}
    for stage, kind in RECORDS.items():
        try:
            found[stage] = kind.read(workspace.result_path(run, seed, f"{stage}.json"), "dvc repro")
        except AebenchError:
            continue
    return found


def prepare_reason(workspace: Workspace, plan: Plan, code: Mapping[str, Any]) -> str | None:
    """Why the images are not those of the plan; None if they are."""
    new = plan.files[workspace.plan / "data.json"]
    try:
        old = DataRecord.read(workspace.results / "data.json", "dvc repro")
    except AebenchError:
        return "no result"
    return reasons(old, new, code)


def stage_reason(old: Result | None, new: Record, code: Mapping[str, Any]) -> str | None:
    """Why the result is not that of the new plan; None if it is."""
    return "no result" if old is None else reasons(old, new, code)


def reasons(old: Result | DataRecord, new: Record, code: Mapping[str, Any]) -> str | None:
    """What differs between the plan that a result holds and the new one; None if nothing does."""
    if old.is_of(new.json_bytes()):
        return None
    if old.plan is None:
        return "of an earlier version of aebench, whose plan is not known"
    return "; ".join(differences(flat(old.plan), flat(new), code)) or "another form of its plan"


def flat(record: Record) -> dict[str, Any]:
    """The plan's settings under dotted names."""
    found: dict[str, Any] = {}
    for key, value in record.model_dump(mode="json", exclude={"format"}).items():
        if isinstance(value, dict) and key != "fingerprints":
            found |= {f"{key}.{name}".removeprefix("build."): v for name, v in value.items()}
        elif isinstance(value, dict):
            found |= {f"{name} code": v for name, v in value.items()}
        else:
            found[key] = value
    return found


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], code: Mapping[str, Any]
) -> Iterator[str]:
    """In words: each setting that changed, and the modules or files behind each fingerprint."""
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        if key.endswith(" code"):
            yield changed_code(key, code.get(was or ""), code.get(now or ""))
        elif key == "files":
            yield "files of the folder changed"
        else:
            yield f"{key} {was!r} -> {now!r}"


def changed_code(kind: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> str:
    """The modules or files whose source differs."""
    if old is None or new is None:
        return f"{kind} changed"
    names = sorted(n for n in {*old, *new} if old.get(n) != new.get(n))
    # A renamed module is another name for the same source: not what moved the fingerprint.
    moved = set(old.values()) & set(new.values())
    names = [n for n in names if not {old.get(n), new.get(n)} & moved] or names
    return f"{', '.join(names)} changed" if names else f"{kind} imports otherwise"


def estimate(
    results: Mapping[tuple[str, int], Mapping[str, Result]], run: str, stage: str, new: Record
) -> float | None:
    """Seconds of the stage: mean of the earlier ones of the run, training by its epochs."""
    times = []
    for (name, _), found in results.items():
        if name != run or (old := found.get(stage)) is None or old.status != "ok":
            continue
        seconds = old.provenance.stage_seconds
        if seconds is not None and isinstance(old, TrainRecord) and isinstance(new, TrainPlan):
            seconds *= epochs(new) / epochs(old.plan)
        if seconds is not None:
            times.append(seconds)
    return sum(times) / len(times) if times else None


def epochs(plan: TrainPlan | None) -> int:
    """Those of a plan, 1 at least."""
    return max(1, plan.train.epochs) if plan and plan.train else 1


def known_code(workspace: Workspace) -> dict[str, dict[str, str]]:
    """What the fingerprints of earlier plans are made of, as far as it is kept."""
    try:
        return Sources.read(workspace.plan / "sources.json", "aebench plan").code
    except AebenchError:
        return {}


def codes_in_use(workspace: Workspace, plan: Plan) -> dict[str, dict[str, str]]:
    """The plan's `code`, and what earlier plans had of it whose results are still there."""
    known = {k: names for k, names in known_code(workspace).items() if k not in plan.code}
    used: set[str] = set()
    for path in workspace.results.glob("*/*/*.json") if known else ():
        try:
            record = RECORDS[path.stem].read(path, "dvc repro")
        except (AebenchError, KeyError):
            continue
        if record.plan is not None:
            used |= set(record.plan.fingerprints.known.values())
    return {key: names for key, names in known.items() if key in used} | plan.code
