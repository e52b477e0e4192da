"""The wheel works where this repository is not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import PATH, ROOT, Workspace

pytestmark = pytest.mark.slow
TEMPLATE = "aebench/template/"
LOAD = """\
import sys, aebench, torch
for run in sys.argv[1:]:
    model = aebench.load(run, seed=0)
    print(run, *model.encoder(torch.zeros(2, *model.shape)).shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    return next(folder.glob("aebench-*.whl"))


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, arguments)], check=True)


@pytest.fixture
def elsewhere(wheel, tmp_path):
    """A folder in whose environment the wheel is installed; this interpreter has what it needs."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip("--python", venv / "bin/python", "install", "--no-deps", "--no-index", wheel)
    dependencies = [path for path in sys.path if Path(path).name.endswith("-packages")]
    site = next(venv.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    found = Workspace(tmp_path)
    found.apart = True
    found.env["PATH"] = f"{venv}/bin{os.pathsep}{PATH}"
    return found


def test_wheel_holds_all_of_the_package_and_the_repositorys_own_template(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    package = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "aebench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    paths = [ROOT / "params.yaml", ROOT / "dvc.yaml", *(ROOT / "plugins").glob("*.py")]
    paths += [ROOT / ".dvcignore", ROOT / ".gitignore", ROOT / ".dvc/config"]
    paths += [ROOT / "docs/plugins.md", ROOT / "docs/zoo/params.yaml"]
    paths += (ROOT / ".dvc/plots").iterdir()
    template = {TEMPLATE + path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    shown = {name: content for name, content in files.items() if ".dist-info/" not in name}
    assert shown == package | template


def test_installed_wheel_makes_a_workspace_runs_it_and_loads_its_models(elsewhere):
    imported = elsewhere.run("python", "-c", "import aebench; print(aebench.__file__)").stdout
    assert Path(imported.strip()).is_relative_to(elsewhere / "venv")
    assert "next: cd bench && dvc repro" in elsewhere.run("aebench", "init", "bench").stdout
    bench = Workspace(elsewhere / "bench")
    bench.env, bench.apart = elsewhere.env, True
    runs = {"pca": {"model": "pca"}, "mlp": {"model": "mlp", "train": {"epochs": 1}}}
    bench.params(runs=runs)
    bench.run("dvc", "repro")
    assert bench.rows().keys() == runs.keys()
    assert "smoke" in (bench / "reports/report.md").read_text().lower()
    loaded = bench.run("python", "-c", LOAD, *runs).stdout
    assert loaded == "pca 2 32\nmlp 2 32\n"
    assert bench.stages("dvc", "repro") == {"plan"}
