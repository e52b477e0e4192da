"""Why stages are stale: which setting, plug-in file or module of aebench has changed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aebench.errors import AebenchError
from aebench.planning import Plan
from aebench.records.chain import Result, StageResults, chain_fault, kind_of
from aebench.records.codecs import CodecsRecord
from aebench.records.plan import DataPlan, EncodePlan, ReportPlan, Sources, TrainPlan
from aebench.records.prepare import DataRecord
from aebench.records.record import Record
from aebench.records.train import TrainRecord
from aebench.workspace import PER_RUN, STRESS, Workspace

OF_SPLITS = ("files", "num_train", "num_test")  # that change with `holdout`, which is said


def why_stale(workspace: Workspace, plan: Plan) -> list[str]:
    """A line for each stage whose result is not that of the plan, and their sum."""
    shown = plan.files[workspace.plan / "report.json"]
    assert isinstance(shown, ReportPlan)
    code = known_code(workspace) | plan.code
    data, reason = prepared(workspace, plan, code)
    results = {
        (run, seed): results_of(workspace, run, seed, shown.expected_of(run, seed))
        for run in shown.runs
        for seed in shown.seeds_of(run)
    }
    # Of other images the earlier times say nothing.
    same_images = data is not None and is_alike(data, plan.files[workspace.plan / "data.json"])
    lines = [f"prepare: {reason}"] if reason else []
    times: list[float | None] = []
    for (run, seed), found in results.items():
        above = None
        for stage in shown.expected_of(run, seed):
            new = plan.files[workspace.plan_path(run, stage)]
            why = f"follows {above}" if above else stage_reason(stage, found, data, new, code)
            if reason and not why:
                why = "follows prepare, if the images change"
            if why:
                kind, _, index = stage.partition("-")
                name = f"{kind}@{run}" if kind == STRESS else f"{kind}@{run}-{index or seed}"
                above = name if kind in ("train", "encode") else above  # others need the codes
                times.append(estimate(results, run, stage, new) if same_images else None)
                lines.append(f"{name}: {why} ({in_words(times[-1])})")
    if why := codecs_reason(workspace, plan, data, code):
        lines.append(f"codecs: {why}")
    if why := "follows" if lines else report_reason(workspace, shown, code):
        lines.append(f"report: {why}")
    if len(lines) == 0:
        return ["no result is stale"]
    known = [seconds for seconds in times if seconds is not None]
    most = f"at most {in_words(sum(known))}" if known else in_words(None)
    if known and len(known) < len(times):
        most += f", and {len(times) - len(known)} without an earlier time"
    return [*lines, f"{len(lines)} stages are stale or follow: {most}"]


def in_words(seconds: float | None) -> str:
    """`about 12 s`, `about 3.4 min`; None: not known."""
    if seconds is None:
        return "no earlier time"
    return f"about {seconds:.0f} s" if seconds < 60 else f"about {seconds / 60:.1f} min"


def results_of(
    workspace: Workspace, run: str, seed: int, stages: Iterable[str] = PER_RUN
) -> dict[str, Result]:
    """Stage -> its result, of those that can be read."""
    found: dict[str, Result] = {}
    for stage in stages:
        path = workspace.result_path(run, seed, f"{stage}.json")
        try:
            found[stage] = kind_of(stage).read(path, "dvc repro")
        except AebenchError:
            continue
    return found


def prepared(
    workspace: Workspace, plan: Plan, code: Mapping[str, Any]
) -> tuple[DataRecord | None, str | None]:
    """What is said of the images, and why they are not those of the plan; None if they are."""
    try:
        old = DataRecord.read(workspace.results / "data.json", "dvc repro")
    except AebenchError:
        return None, "no result"
    return old, reasons(old, plan.files[workspace.plan / "data.json"], code)


def codecs_reason(
    workspace: Workspace, plan: Plan, data: DataRecord | None, code: Mapping[str, Any]
) -> str | None:
    """Why what is known of the codecs is not that of the plan; None if it is."""
    try:
        old = CodecsRecord.read(workspace.results / "codecs.json", "dvc repro")
    except AebenchError:  # where dvc.yaml is of before there was the stage, nothing makes one
        known = workspace.root / "dvc.yaml"
        return "no result" if known.is_file() and "aebench codecs" in known.read_text() else None
    if data is not None and old.data_hash != data.data_hash:
        return "of other images"
    return reasons(old, plan.files[workspace.plan / "codecs.json"], code)


def is_alike(data: DataRecord, new: Record) -> bool:
    """Whether the prepared images are probably those of the plan: of one source and size."""
    assert isinstance(new, DataPlan)
    old = data.plan
    keys = ("image_size", "channels", "holdout", "source", "num_train")
    return data.dataset == new.dataset and all(
        getattr(old, key) == getattr(new, key) for key in keys if old is not None
    )


def stage_reason(
    stage: str,
    found: StageResults,
    data: DataRecord | None,
    new: Record,
    code: Mapping[str, Any],
) -> str | None:
    """Why a stage's result is not that of the new plan and the results before it; else None."""
    if stage not in found or data is None:
        return "no result"
    return reasons(found[stage], new, code) or chain_fault(stage, found, data)


def report_reason(workspace: Workspace, new: ReportPlan, code: Mapping[str, Any]) -> str | None:
    """Why the report is not that of the plan; None if it is."""
    try:
        old = ReportPlan.read(workspace.plan / "report.json", "aebench plan")
    except AebenchError:
        return "no plan"
    if not (workspace.reports / "report.md").is_file():
        return "no report"
    return "; ".join(differences(flat(old), flat(new), code)) or None


def reasons(
    old: Result | DataRecord | CodecsRecord, new: Record, code: Mapping[str, Any]
) -> str | None:
    """What differs between the plan that a result holds and the new one; None if nothing does."""
    if old.is_of(new.json_bytes()):
        return None
    if old.plan is None:
        return "of an earlier version of aebench, whose plan is not known"
    return "; ".join(differences(flat(old.plan), flat(new), code)) or "another form of its plan"


def flat(record: Record) -> dict[str, Any]:
    """The plan's settings under dotted names."""
    found: dict[str, Any] = {}
    hidden = {"format", "expected", "data", "codecs"}  # hashes, of which nothing can be told
    for key, value in record.model_dump(mode="json", exclude=hidden).items():
        if key == "weights" and value:
            found |= {"weights": value["file"], "weights hash": value["hash"]}
        elif key == "metrics":
            for name, metric in value.items():
                found[f"metric {name}"] = metric["plugin"]
                found[f"metric {name} code"] = metric["fingerprint"]
        elif isinstance(value, dict) and key != "fingerprints":
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
    other_split = old.get("holdout") != new.get("holdout")
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if was == now or (other_split and key in OF_SPLITS):
            continue
        if key.startswith("metric ") and key.endswith(" code") and None in (was, now):
            continue  # it is new or gone, which is told
        if key.endswith(" code"):
            yield changed_code(key, code.get(was or ""), code.get(now or ""))
        elif key == "weights hash":
            if old.get("weights") == new.get("weights"):  # else the other file is told
                yield f"{new['weights']} changed"
        elif key == "files":
            yield "files of the folder changed"
        elif key not in new:
            yield f"{key} is not used any more"
        elif key not in old:
            yield f"{key} is new ({now!r})"
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
    results: Mapping[tuple[str, int], StageResults], run: str, stage: str, new: Record
) -> float | None:
    """Seconds of the stage: mean of the run's earlier ones, with as many epochs as now."""
    times = []
    for (name, _), found in results.items():
        old = found.get(stage)
        if name != run or old is None or old.status != "ok":
            continue
        whole = old.provenance.stage_seconds
        if isinstance(old, TrainRecord) and isinstance(new, TrainPlan):
            before = old.train_seconds or 0
            now = (old.epoch_seconds or 0) * epochs(new) or before
            whole = (before if whole is None else whole) - before + now
        if whole is not None:
            times.append(whole)
    return sum(times) / len(times) if times else None


def epochs(plan: TrainPlan) -> int:
    """Those of training by gradient."""
    return plan.train.epochs if plan.train else 0


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
            record = kind_of(path.stem).read(path, "dvc repro")
        except (AebenchError, KeyError):
            continue
        if record.plan is not None:
            used |= set(record.plan.fingerprints.known.values())
        if isinstance(record.plan, EncodePlan):
            used |= {metric.fingerprint for metric in record.plan.metrics.values()}
    return {key: names for key, names in known.items() if key in used} | plan.code
