"""Other packages' models, wrapped as docs/plugins.md shows: each keeps the contract and trains.

pip install diffusers timm pythae, then, anywhere: python benchmarks/wrapped.py
"""

import csv
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = "AE", "VAE", "BetaVAE", "BetaTCVAE", "FactorVAE", "SVAE", "IWAE", "VQVAE"
RUNS = {
    "diffusers": {"model": "diffusers"},
    "timm-untrained": {"model": "timm_encoder", "train": {"epochs": 0}},
    **{f"pythae-{kind.lower()}": {"model": "pythae", "kind": kind} for kind in KINDS},
    "pca": {"model": "pca"},
}


def main() -> None:
    """Check each model, run the pipeline on digits, print the rows."""
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
        columns = "run", "status", "latent", "num_params", "code_bits", "mse", "accuracy"
        with (workspace / "reports/results.csv").open() as file:
            for row in csv.DictReader(file):
                print("  ".join(f"{column} {row[column] or '-'}" for column in columns))


def aebench(folder: Path, *arguments: str) -> None:
    """Run the verb there."""
    command = [sys.executable, "-m", "aebench", *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


main()
