"""Train a run again, away from DVC and its cache, and compare."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError, nearest
from aebench.files import PLAN, PREPARED, data_root, file_hash, plan_path, read_json, result_path
from aebench.results import STAGES

# What must agree for equal bits.
MACHINE = "cpu", "gpu", "cores", "threads", "device", "precision", "layout"
# Elsewhere rounding differs, and training amplifies it as another seed would.
MSE_TOLERANCE = 0.05  # of the MSE
ACCURACY_TOLERANCE = 0.02


def verify(run: str, seed: int | None) -> None:
    """Train, encode and search the run in new processes and a temporary folder; print the verdict.

    Equal bits of weights, codes and outcomes are demanded where machine, threads, precision and
    library versions are those of the result; elsewhere the MSE within 5 % and the accuracy within 2
    points. AebenchError where that does not hold or there is no result of the current plan.
    """
    plan = read_json(PLAN / "report.json", "dvc repro")
    if run not in plan["runs"]:
        known = ", ".join(plan["runs"])
        raise AebenchError(f"unknown run {run!r}{nearest(run, plan['runs'])}; runs: {known}")
    seed = plan["seeds"][0] if seed is None else seed
    old = results(Path(), run, seed)
    failed = [result["status"] for result in old.values() if result["status"] != "ok"]
    if failed:
        raise AebenchError(f"run {run!r}, seed {seed}: {failed[0]}: nothing to verify")
    with tempfile.TemporaryDirectory(prefix="aebench-") as name:
        folder = Path(name)
        (folder / PREPARED.parent).mkdir(parents=True)
        for path in (Path("params.yaml"), Path("plugins"), PREPARED):
            (folder / path).symlink_to(path.absolute())
        call(folder, ["plan"])
        for stage in STAGES:
            now = file_hash(folder / plan_path(run, stage))
            if now != old[stage]["plan_hash"]:
                raise AebenchError(
                    f"run {run!r}, seed {seed}: the result of {stage} is of other settings, "
                    "plug-ins or code than these; run `dvc repro` first"
                )
        for stage in STAGES:
            print(f"{stage} {run} {seed} ...", flush=True)
            call(folder, [stage, run, str(seed)], old[stage]["provenance"]["threads"])
        new = results(folder, run, seed)
    if old["train"]["data_hash"] != new["train"]["data_hash"]:
        raise AebenchError(f"run {run!r}, seed {seed}: of other images; run `dvc repro` first")
    compare(f"run {run!r}, seed {seed}", old, new)


def results(folder: Path, run: str, seed: int) -> dict[str, Any]:
    """What each stage said, and the hash of the outcomes."""
    found = {
        stage: read_json(folder / result_path(run, seed, f"{stage}.json"), "dvc repro")
        for stage in STAGES
    }
    outcomes = folder / result_path(run, seed, "outcomes.npy")
    found["knn"]["outcomes_hash"] = file_hash(outcomes) if outcomes.is_file() else None
    return found


def call(folder: Path, arguments: list[str], threads: int = 1) -> None:
    """Run the verb in the folder, its output unseen."""
    # A stage of a DVC run that this is part of must not be taken for one of DVC's.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    environment |= {"OMP_NUM_THREADS": str(threads), "AEBENCH_DATA": str(data_root().absolute())}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "aebench", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise AebenchError(done.stderr.removeprefix("aebench: error: ").strip())


def compare(name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Print that the results match, or raise AebenchError that says how they differ."""
    status = new["knn"]["status"] if new["train"]["status"] == "ok" else new["train"]["status"]
    if status != "ok":
        raise AebenchError(f"{name}: does not match: {status}")
    figures = [(result["encode"]["mse"], result["knn"]["accuracy"]) for result in (old, new)]
    (mse, accuracy), (new_mse, new_accuracy) = figures
    words = (
        f"MSE {mse:.6f}, now {new_mse:.6f}; accuracy {100 * accuracy:.2f} %, "
        f"now {100 * new_accuracy:.2f} %"
    )
    hashes = ("train", "weights_hash"), ("encode", "codes_hash"), ("knn", "outcomes_hash")
    differing = [key for stage, key in hashes if old[stage][key] != new[stage][key]]
    if not differing:
        print(f"{name}: matches bit for bit: weights, codes and outcomes; {words}")
        return
    changed = sorted(
        {
            f"{stage} {key}: {was!r}, now {now!r}"
            for stage in STAGES
            for key, was, now in differences(old[stage]["provenance"], new[stage]["provenance"])
        }
    )
    if not changed:
        raise AebenchError(
            f"{name}: does not match: other {', '.join(differing)} on the same machine with the "
            f"same threads, precision and versions; {words}"
        )
    off = (
        abs(new_mse - mse) > MSE_TOLERANCE * mse,
        abs(new_accuracy - accuracy) > ACCURACY_TOLERANCE,
    )
    where = f"{words}; computed elsewhere ({'; '.join(changed)})"
    allowed = (
        f"allowed there: MSE {MSE_TOLERANCE:.0%}, accuracy {100 * ACCURACY_TOLERANCE:.0f} points"
    )
    if any(off):
        raise AebenchError(f"{name}: does not match: {where}; {allowed}")
    print(f"{name}: matches within the tolerance: {where}; {allowed}")


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What of machine, threads, precision and versions differs between two provenances."""
    pairs = [(key, old.get(key), new.get(key)) for key in MACHINE]
    pairs += [(key, old["versions"].get(key), new["versions"].get(key)) for key in old["versions"]]
    return [pair for pair in pairs if pair[1] != pair[2]]
