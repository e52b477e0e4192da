"""The structure: who imports what, and that documents and code say the same."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from aebench.__main__ import VERBS
from aebench.fingerprint import PACKAGE, stage_sources

STAGES = ["plan", "prepare", "train", "encode", "knn", "report"]
HEAVY = {"torch", "torchvision", "sklearn", "faiss", "matplotlib", "dvc"}


def imported(stage):
    """All modules in a fresh process after importing the stage."""
    code = f"import sys, aebench.{stage}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("stage", STAGES)
def test_fingerprint_covers_exactly_what_the_stage_imports(stage):
    found = {m for m in imported(stage) if m.startswith("aebench.")}
    sources = {f"aebench.{path.stem}" for path in stage_sources(stage)}
    # `__init__` imports these two everywhere; they hold names, and nothing that is computed.
    assert found == sources | {"aebench.errors", "aebench.hookspecs"}
    assert not {f"aebench.{other}" for other in STAGES if other != stage} & sources


@pytest.mark.parametrize(
    ("stage", "allowed"),
    [
        ("plan", set()),
        ("prepare", set()),
        ("train", {"torch"}),
        ("encode", {"torch"}),
        ("knn", set()),
        ("report", {"matplotlib"}),
    ],
)
def test_stages_import_nothing_heavy_they_do_not_need(stage, allowed):
    modules = imported(stage)
    assert modules & HEAVY == allowed
    assert "torch._dynamo" not in modules and "matplotlib.pyplot" not in modules


def test_training_does_not_import_the_compiler(baseline):
    code = (
        "import sys; from aebench.train import train; train('mlp', 0);"
        "assert 'torch._dynamo' not in sys.modules"
    )
    baseline.run("python", "-c", code)


def test_dvc_stages_are_the_verbs():
    stages = re.findall(r"^  (\w+):", (ROOT / "dvc.yaml").read_text(), re.MULTILINE)
    assert stages == STAGES
    assert list(VERBS) == [*STAGES, "verify", "list"]
    for stage in STAGES:
        assert (PACKAGE / f"{stage}.py").is_file()


def test_readme_is_short_and_complete():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for words in [f"aebench {verb}" for verb in VERBS] + ["register_models", "register_datasets"]:
        assert words in text, words
    assert (ROOT / "plugins/combo.py").read_text() in text


def test_readme_figures_are_those_of_the_committed_report():
    readme = (ROOT / "README.md").read_text()
    report = (ROOT / "docs/cifar10/report.md").read_text()
    table = re.search(r"<!-- table -->\n(.*?)<!-- end -->", readme, re.DOTALL)
    assert table and table[1].strip() in report
