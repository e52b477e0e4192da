"""Train a run again, away from DVC and its cache, and compare."""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError
from aebench.inputs import FIX, Inputs
from aebench.job import check_planned
from aebench.params import read_params
from aebench.records.encode import EncodeRecord
from aebench.records.knn import KnnRecord
from aebench.records.origin import MACHINE, Provenance
from aebench.records.train import TrainRecord
from aebench.weights_file import path_fault
from aebench.workspace import PER_RUN, Workspace, data_root, file_hash

# Elsewhere rounding differs, and training amplifies it as another seed would.
MSE_TOLERANCE = 0.05  # of the MSE
ACCURACY_TOLERANCE = 0.02


@dataclass
class Results:
    """What the three stages of a run and seed say, and the hash of the outcomes."""

    train: TrainRecord
    encode: EncodeRecord
    knn: KnnRecord
    outcomes_hash: str

    @property
    def records(self) -> dict[str, TrainRecord | EncodeRecord | KnnRecord]:
        """Stage -> its record."""
        return {"train": self.train, "encode": self.encode, "knn": self.knn}

    @property
    def failed(self) -> str | None:
        """The first status that is not ok."""
        return next((r.status for r in self.records.values() if r.status != "ok"), None)

    @property
    def figures(self) -> tuple[float | None, float]:
        """MSE, None of an encoder alone, and accuracy of what did not fail."""
        assert self.knn.accuracy is not None
        return self.encode.mse, self.knn.accuracy

    @property
    def hashes(self) -> dict[str, str | None]:
        """What must agree bit for bit."""
        return {
            "weights_hash": self.train.weights_hash,
            "codes_hash": self.encode.codes_hash,
            "metrics_hash": self.encode.file_hash("metrics.npy"),
            "outcomes_hash": self.outcomes_hash,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed."""
    parser.add_argument("run", help="a name under runs: in params.yaml")
    words = "one of its seeds; the first unless given"
    parser.add_argument("seed", type=int, nargs="?", help=words)


def verify(workspace: Workspace, run: str, seed: int | None) -> None:
    """Train, encode and search the run in new processes and a temporary folder; print the verdict.

    Equal bits of weights, codes, metrics and outcomes are demanded where machine, threads,
    precision and library versions are those of the result; elsewhere the MSE, if there is a
    decoder, within 5 % and the accuracy within 2 points. AebenchError where that does not hold or
    there is no result of the current plan.
    """
    seed = check_planned(workspace, run, seed)
    name = f"run {run!r}, seed {seed}"
    old = results(workspace, run, seed)
    if old.failed:
        raise AebenchError(f"{name}: {old.failed}: nothing to verify")
    with tempfile.TemporaryDirectory(prefix="aebench-") as folder:
        elsewhere = Workspace(Path(folder))
        elsewhere.prepared.parent.mkdir(parents=True)
        elsewhere.results.mkdir()
        for part in ("params", "plugins", "prepared", "data_record"):
            getattr(elsewhere, part).symlink_to(getattr(workspace, part).absolute())
        link_weights(workspace, elsewhere)
        again(elsewhere, run, seed, old, name)
        new = results(elsewhere, run, seed)
    if old.train.data_hash != new.train.data_hash:
        raise AebenchError(f"{name}: of other images; run `dvc repro` first")
    compare(name, old, new)


def link_weights(workspace: Workspace, elsewhere: Workspace) -> None:
    """Let the files that runs begin with be found there, too; those of all runs: `plan` looks."""
    params, _ = read_params(workspace)  # what is wrong in it, `plan` says there
    for run in params.runs.values() if params else ():
        if run.weights is None or path_fault(run.weights):
            continue
        path = elsewhere.root / run.weights
        # Not that in plugins/, which is there through a link, nor that of two runs, twice.
        if (workspace.root / run.weights).exists() and not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to((workspace.root / run.weights).absolute())


def again(elsewhere: Workspace, run: str, seed: int, old: Results, name: str) -> None:
    """Run the stages there. AebenchError where their plans are not those of the old results."""
    call(elsewhere.root, ["plan"])
    for stage, record in old.records.items():
        if not record.is_of(elsewhere.plan_path(run, stage).read_bytes()):
            raise AebenchError(
                f"{name}: the result of {stage} is of other settings, plug-ins or code than "
                "these; run `dvc repro` first"
            )
    for stage, record in old.records.items():
        print(f"{stage} {run} {seed} ...", flush=True)
        origin = record.provenance
        threads = (origin.threads or 1) * (origin.processes or 1)
        call(elsewhere.root, [stage, run, str(seed)], threads)


def results(workspace: Workspace, run: str, seed: int) -> Results:
    """The results of a run and seed. AebenchError where one is not there."""

    def path(name: str) -> Path:
        return workspace.result_path(run, seed, name)

    outcomes = path("outcomes.npy")
    knn = KnnRecord.read(path("knn.json"), "dvc repro")
    recorded = knn.file_hash(outcomes.name)
    Inputs().check(outcomes, recorded, FIX)
    return Results(
        TrainRecord.read(path("train.json"), "dvc repro"),
        EncodeRecord.read(path("encode.json"), "dvc repro"),
        knn,
        recorded or file_hash(outcomes),
    )


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


def compare(name: str, old: Results, new: Results) -> None:
    """Print that the results match, or raise AebenchError that says how they differ."""
    if failed := new.failed:
        raise AebenchError(f"{name}: does not match: {failed}")
    mse, accuracy = old.figures
    new_mse, new_accuracy = new.figures
    words = f"accuracy {100 * accuracy:.2f} %, now {100 * new_accuracy:.2f} %"
    allowed = f"accuracy {100 * ACCURACY_TOLERANCE:.0f} points"
    off = abs(new_accuracy - accuracy) > ACCURACY_TOLERANCE
    if mse is not None and new_mse is not None:
        words = f"MSE {mse:.6f}, now {new_mse:.6f}; {words}"
        allowed = f"MSE {MSE_TOLERANCE:.0%}, {allowed}"
        off |= abs(new_mse - mse) > MSE_TOLERANCE * mse
    elif mse != new_mse:
        raise AebenchError(f"{name}: does not match: a decoder is there in one of the two alone")
    differing = [key for key, value in old.hashes.items() if new.hashes[key] != value]
    if not differing:
        print(f"{name}: matches bit for bit: weights, codes, metrics and outcomes; {words}")
        return
    changed = sorted(
        {
            f"{stage} {key}: {was!r}, now {now!r}"
            for stage in PER_RUN
            for key, was, now in differences(
                old.records[stage].provenance, new.records[stage].provenance
            )
        }
    )
    if not changed:
        raise AebenchError(
            f"{name}: does not match: other {', '.join(differing)} on the same machine with the "
            f"same threads, precision and versions; {words}"
        )
    where = f"{words}; computed elsewhere ({'; '.join(changed)}); allowed there: {allowed}"
    if off:
        raise AebenchError(f"{name}: does not match: {where}")
    print(f"{name}: matches within the tolerance: {where}")


def differences(old: Provenance, new: Provenance) -> list[tuple[str, Any, Any]]:
    """What of machine, threads, precision and versions differs between two provenances."""
    pairs = [(key, getattr(old, key), getattr(new, key)) for key in MACHINE]
    pairs += [(key, was, new.versions.get(key)) for key, was in old.versions.items()]
    return [pair for pair in pairs if pair[1] != pair[2]]
