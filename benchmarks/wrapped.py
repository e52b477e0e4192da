"""Other packages' models, wrapped as docs/plugins.md shows: each keeps the contract and trains.

    pip install diffusers timm pythae
    python benchmarks/wrapped.py | tee benchmarks/wrapped.txt

The digits benchmark in a temporary workspace, by the recipe of params.yaml. No weights are loaded.
"""

import csv
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).parent.parent
KINDS = "AE", "VAE", "BetaTCVAE", "FactorVAE", "IWAE", "VQVAE"
RUNS = {
    "diffusers": {"model": "diffusers"},
    "timm-untrained": {"model": "timm_encoder", "train": {"epochs": 0}},
    **{f"pythae-{kind.lower()}": {"model": "pythae", "kind": kind} for kind in KINDS},
    "pca": {"model": "pca"},
}
COLUMNS = "run", "status", "num_params", "model_bytes", "latent", "code_bits", "mse", "accuracy"


def main() -> None:
    """Run the pipeline and print the rows."""
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in ("diffusers", "timm", "pythae")
    ]
    print(", ".join(versions))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        aebench(ROOT, "init", str(workspace))
        page = (ROOT / "docs/plugins.md").read_text()
        blocks = re.findall("```python\n(.+?)```", page, re.DOTALL)
        (workspace / "plugins/kinds.py").write_text("\n".join(blocks))
        params = (workspace / "params.yaml").read_text()
        runs = "".join(f"  {name}: {json.dumps(run)}\n" for name, run in RUNS.items())
        (workspace / "params.yaml").write_text(
            params[: params.index("\nruns:")] + f"\nruns:\n{runs}"
        )
        for verb in ("plan", "prepare"):
            aebench(workspace, verb)
        for run in RUNS:
            for verb in ("train", "encode", "knn"):
                aebench(workspace, verb, run, "0")
        aebench(workspace, "report")
        with (workspace / "reports/results.csv").open() as file:
            rows = [[row[column] for column in COLUMNS] for row in csv.DictReader(file)]
        print(tabulate(rows, COLUMNS, floatfmt=".5g", missingval=""))


def aebench(folder: Path, *arguments: str) -> None:
    """Run the verb there."""
    command = [sys.executable, "-m", "aebench", *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


main()
