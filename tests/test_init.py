"""`aebench init`: a workspace is made, made again, and brought up to another version."""

import json
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from aebench import cli, version
from aebench.commands import init
from aebench.version import RECORD, read_record, shipped, template, warn_of_other_version
from aebench.workspace import Workspace

FILES = ["params.yaml", "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config"]
FILES += ["docs/plugins.md", "docs/zoo/params.yaml"]
PLOTS = [f".dvc/plots/{path.name}" for path in sorted((ROOT / ".dvc/plots").iterdir())]
FILES += PLOTS
FILES += [f"plugins/{path.name}" for path in sorted((ROOT / "plugins").glob("*.py"))]


@pytest.fixture
def folder(tmp_path):
    """Empty, but for what git and DVC have made already: no process of DVC's is needed."""
    folder = tmp_path / "bench"
    (folder / ".dvc").mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Installs, as far as `init` sees, another version: changed files, None for those removed."""

    def install(number, **changes):
        package = tmp_path / number
        for name in FILES:
            (package / "template" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, package / "template" / name)
        for name, content in changes.items():
            path = (
                package
                / "template"
                / {"dvc": "dvc.yaml", "page": "docs/plugins.md"}.get(name, f"plugins/{name}.py")
            )
            path.unlink() if content is None else path.write_text(content)
        monkeypatch.setattr(version, "PACKAGE", package)
        monkeypatch.setattr(metadata, "version", lambda name: number)

    return install


@pytest.fixture
def run(capsys):
    """Runs `aebench init` with the arguments: what it prints, or the line of its error."""

    def init(*arguments, ok=True, warned=False):
        status = cli.run(["init", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert status == (0 if ok else 1), err
        if ok:
            assert err.startswith("aebench: warning: this workspace has") == warned
            return out
        assert err.startswith("aebench: error: ") and err.count("\n") == 1
        return err.removeprefix("aebench: error: ").strip()

    return init


def snapshot(folder):
    """Name -> content and time of everything but git's and DVC's own."""
    paths = [p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts]
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}


def test_new_workspace_is_the_repositorys_files_and_needs_no_identity(tmp_path, monkeypatch, run):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "my bench"
    lines = run(folder).splitlines()
    for name in FILES:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert (folder / ".git").is_dir()
    assert read_record(folder).version == metadata.version("aebench")
    assert f"wrote {folder}/dvc.yaml" in lines
    assert lines[-1].endswith(f"cd '{folder}' && dvc repro")
    before = snapshot(folder)
    assert run(folder).startswith(f"{folder}: nothing to write")
    assert snapshot(folder) == before


def test_subfolder_of_a_repository_gets_none_of_its_own(tmp_path, run):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert "dvc init --subdir" in run(tmp_path / "bench")
    assert (tmp_path / "bench/.dvc/config").is_file()
    assert not (tmp_path / "bench/.git").exists() and not (tmp_path / ".dvc").exists()


def test_what_dvc_refuses_is_a_line_and_leaves_no_folder(tmp_path, run):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("/bench/\n")
    assert "ignored by your SCM" in run(tmp_path / "bench", ok=False)
    assert not (tmp_path / "bench").exists()


def test_full_disk_is_a_line_and_leaves_no_folder(tmp_path, run, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    def full(root, contents):
        raise OSError(28, "No space left on device", str(root / "params.yaml"))

    monkeypatch.setattr(init, "write", full)
    assert "params.yaml: No space left on device" in run(tmp_path / "bench", ok=False)
    assert not (tmp_path / "bench").exists()


def test_what_is_there_stays(folder, run):
    (folder / "params.yaml").write_text("mine: 1\n")
    (folder / "plugins").mkdir()
    (folder / "plugins/cnn.py").write_text("# mine\n")
    (folder / "docs").mkdir()
    (folder / "docs/plugins.md").write_text("# mine\n")
    out = run(folder)
    assert (folder / "docs/plugins.md").read_text() == "# mine\n"
    assert f"kept {folder}/docs/plugins.md: it was there; see how it differs" in out
    assert (folder / "params.yaml").read_text() == "mine: 1\n"
    assert (folder / "plugins/cnn.py").read_text() == "# mine\n"
    assert f"kept {folder}/params.yaml: it was there\n" in out
    assert f"kept {folder}/plugins/cnn.py: it was there; see how it differs: aebench init" in out
    assert (folder / "plugins/mlp.py").is_file() and "cnn.py," not in out


@pytest.mark.parametrize("end", ["", "\n"])
def test_ignore_files_get_the_missing_lines(folder, run, end):
    (folder / ".gitignore").write_text(f"/mine/\n/data/{end}")
    (folder / ".dvcignore").write_text(f"# mine{end}")
    out = run(folder)
    lines = (folder / ".gitignore").read_text().splitlines()
    assert lines[:3] == ["/mine/", "/data/", "# aebench"]
    wanted = (ROOT / ".gitignore").read_text().splitlines()
    assert {line for line in wanted if not line.startswith("#")} <= set(lines)
    assert lines.count("/data/") == 1
    assert (folder / ".dvcignore").read_text() == "# mine\n# aebench\n__pycache__/\n*.pyc\n*.part\n"
    assert f"added to {folder}/.gitignore" in out
    before = snapshot(folder)
    run(folder)
    assert snapshot(folder) == before


def test_a_file_in_the_way_is_a_line(folder, run):
    (folder / "plugins").write_text("")
    assert "plugins: got a file, allowed: a folder" in run(folder, ok=False)
    assert "got a file" in run(folder / "plugins", ok=False)
    (folder / ".dvc/plots").write_text("")
    (folder / "plugins").rename(folder / "other")
    assert ".dvc/plots: got a file, allowed: a folder" in run(folder, ok=False)
    (folder / ".dvc/plots").unlink()
    (folder / "docs").write_text("")
    assert "docs: got a file" in run(folder, ok=False)
    (folder / "other").rename(folder / "plugins")
    assert "plugins: got a file" in run(folder / "plugins" / "bench", ok=False)
    assert not (folder / "dvc.yaml").exists()


@pytest.mark.parametrize(("there", "missing"), [("git", "dvc"), ("dvc", "git")])
def test_missing_program_is_a_line(tmp_path, run, monkeypatch, there, missing):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / there).symlink_to(init.program(there))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert f"{missing}: not found" in run(tmp_path / "bench", ok=False)
    assert not (tmp_path / "bench").exists()


def test_environment_that_is_not_activated_is_part_of_the_next_command(
    folder, run, monkeypatch, tmp_path
):
    for name in ("python", "activate"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    git = Path(shutil.which("git")).parent
    monkeypatch.setattr(init, "program", lambda name: str(git / name))
    monkeypatch.setenv("PATH", "")
    last = run(folder).splitlines()[-1]
    assert last == f"next: . {tmp_path}/activate && cd {folder} && dvc repro"


def test_upgrade_takes_over_what_nobody_changed(folder, run, release):
    release("1.0")
    run(folder)
    (folder / "params.yaml").write_text("mine: 1\n")
    old = (ROOT / "dvc.yaml").read_text()
    release("1.1", dvc=old + "# later\n", novel="# new\n", page="# Later\n")
    out = run("--upgrade", folder)
    assert "+# later\n" in out and f"taken over: {folder}/dvc.yaml\n" in out
    assert f"new: {folder}/plugins/novel.py\n" in out
    assert f"taken over: {folder}/docs/plugins.md\n" in out
    assert (folder / "docs/plugins.md").read_text() == "# Later\n"
    assert (folder / "dvc.yaml").read_text() == old + "# later\n"
    assert (folder / "plugins/novel.py").read_text() == "# new\n"
    assert (folder / "params.yaml").read_text() == "mine: 1\n"
    assert read_record(folder).version == "1.1"
    before = snapshot(folder)
    assert f"aebench 1.1: {len(shipped())} the same\n" in run("--upgrade", folder)
    assert snapshot(folder) == before


def test_upgrade_brings_plots_and_the_patterns_to_ignore(folder, run, release):
    release("1.0")
    run(folder)
    record = json.loads((folder / RECORD).read_text())
    for name in PLOTS:  # as of a version that had none
        (folder / name).unlink()
        del record["files"][name]
    (folder / RECORD).write_text(json.dumps(record))
    (folder / ".gitignore").write_text("/data/\n")
    release("1.1")
    out = run("--upgrade", folder)
    assert all(f"new: {folder}/{name}\n" in out for name in PLOTS)
    assert f"added to {folder}/.gitignore: what was missing\n" in out
    assert "/dvc_plots/" in (folder / ".gitignore").read_text().splitlines()
    checked = subprocess.run(["git", "check-ignore", *PLOTS], cwd=folder, stdout=subprocess.PIPE)
    assert checked.stdout == b""  # git has them


def test_upgrade_leaves_changed_deleted_and_dropped_files(folder, run, release):
    release("1.0", old="# old\n")
    run(folder)
    (folder / "plugins/cnn.py").write_text("# mine\n")
    (folder / "plugins/novel.py").write_text("# my own\n")
    (folder / "plugins/pca.py").unlink()
    release("1.1", cnn="# later\n", pca="# later\n", novel="# built in now\n")
    out = run("--upgrade", folder)
    assert "-# mine\n+# later\n" in out and "-# my own\n" in out
    by_hand = f"cd {folder} && mv plugins/cnn.py cnn.py.mine && aebench init"
    assert f"kept: {folder}/plugins/cnn.py; to have this version's: {by_hand}\n" in out
    assert f"changed here, kept: {folder}/plugins/novel.py" in out
    assert f"not here, left so: {folder}/plugins/pca.py" in out
    assert f"no longer shipped, kept: {folder}/plugins/old.py" in out
    assert (folder / "plugins/cnn.py").read_text() == "# mine\n"
    assert not (folder / "plugins/pca.py").exists()
    (folder / "plugins/cnn.py").rename(folder / "cnn.py.mine")
    run(folder)
    assert (folder / "plugins/cnn.py").read_text() == "# later\n"
    assert (folder / "plugins/pca.py").read_text() == "# later\n"


def test_a_plugin_that_is_a_folder_is_left_alone(folder, run, release):
    release("1.0")
    run(folder)
    for name in ("novel", "mine"):
        (folder / f"plugins/{name}").mkdir()
        (folder / f"plugins/{name}/__init__.py").write_text("# mine\n")
    release("1.1", novel="# built in now\n")
    out = run("--upgrade", folder)
    assert (
        f"a folder here has its name, left out: {folder}/plugins/novel.py\n" in out
        and "mine" not in out
    )
    run(folder)
    assert not (folder / "plugins/novel.py").exists()
    assert (folder / "plugins/novel/__init__.py").read_text() == "# mine\n"


def test_file_changed_before_an_upgrade_stays_changed_after_it(folder, run, release):
    release("1.0")
    run(folder)
    (folder / "plugins/cnn.py").write_text("# mine\n")
    for number in ("1.1", "1.2"):
        release(number, cnn=f"# {number}\n")
        assert "changed here, kept" in run("--upgrade", folder)


def test_init_with_another_version_leaves_the_rest_to_upgrade(folder, run, release):
    release("1.0")
    run(folder)
    (folder / "plugins/cnn.py").unlink()
    release("1.1", cnn="# later\n", mlp="# later\n")
    run(folder, warned=True)
    assert read_record(folder).version == "1.0"
    out = run("--upgrade", folder)
    assert f"taken over: {folder}/plugins/mlp.py" in out and "1 taken over" in out


def test_upgrade_without_a_record_counts_what_differs_as_changed(folder, run, release):
    release("1.0")
    run(folder)
    (folder / RECORD).unlink()
    (folder / "plugins/pca.py").unlink()
    release("1.1", cnn="# later\n")
    out = run("--upgrade", folder)
    assert f"changed here, kept: {folder}/plugins/cnn.py" in out
    assert f"not here, left so: {folder}/plugins/pca.py" in out
    release("1.2", cnn="# later\n", mlp="# later\n")
    assert f"taken over: {folder}/plugins/mlp.py" in run("--upgrade", folder)


def test_upgrade_wants_a_workspace(tmp_path, run):
    assert "no workspace" in run("--upgrade", tmp_path, ok=False)
    assert "no workspace" in run("--upgrade", tmp_path / "none", ok=False)


def test_source_checkout_is_a_workspace_without_a_record(folder, run, monkeypatch):
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    monkeypatch.setattr(version, "PACKAGE", folder / "aebench")
    before = snapshot(folder)
    assert "nothing to write" in run(folder)
    assert f"{len(shipped())} the same" in run("--upgrade", folder)
    assert snapshot(folder) == before


BAD_RECORDS = {
    "": "Expecting value",
    "[]": "not what `aebench init` wrote",
    '{"format": 1, "aebench": 1, "files": {}}': "not what `aebench init` wrote",
    '{"format": 1, "aebench": "1.0", "files": {"dvc.yaml": 1}}': "not what `aebench init` wrote",
    '{"format": 2}': "got format 2, allowed up to 1: a later aebench wrote it",
}


@pytest.mark.parametrize("content", BAD_RECORDS)
def test_bad_record_is_a_line_and_stops_no_stage(folder, run, capsys, content):
    run(folder)
    (folder / RECORD).write_text(content)
    before = snapshot(folder)
    for arguments in ([folder], ["--upgrade", folder]):
        assert BAD_RECORDS[content] in run(*arguments, ok=False)
    warn_of_other_version(Workspace(folder))
    err = capsys.readouterr().err
    assert err.startswith("aebench: warning: ") and BAD_RECORDS[content] in err
    assert err.count("\n") == 1 and snapshot(folder) == before


def test_stage_says_that_the_workspace_is_of_another_version(
    folder, run, release, capsys, monkeypatch
):
    release("1.0")
    run(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cli, "module_of", lambda verb: SimpleNamespace(plan=print, list=print))

    def said(verb):
        cli.run([verb])
        return capsys.readouterr().err

    assert said("plan") == ""
    release("1.1")
    assert said("plan") == ""
    release("1.2", cnn="# later\n")
    assert said("list") == ""
    assert said("plan") == (
        "aebench: warning: this workspace has the files of aebench 1.0, those of the installed "
        "1.2 differ; to see how, and to take over what nobody changed: aebench init --upgrade\n"
    )
    (folder / "plugins/cnn.py").write_text("# mine\n")
    init.init(Workspace(), None, True)
    assert said("plan") == ""


def test_workspace_without_a_record_is_of_no_version(tmp_path, capsys):
    warn_of_other_version(Workspace(tmp_path))
    assert capsys.readouterr().err == ""


def test_record_is_plain(folder, run):
    run(folder)
    record = json.loads((folder / RECORD).read_text())
    assert record["format"] == version.FORMAT and record["aebench"] == metadata.version("aebench")
    assert record["files"].keys() == shipped().keys()


def test_checkout_takes_its_own_files_and_the_wheel_the_same():
    assert template() == ROOT
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    folders = {
        ".dvc/plots" if name in PLOTS else "plugins" if name[-3:] == ".py" else name
        for name in FILES
    }
    assert folders == set(included)
    assert all(place == f"aebench/template/{name}" for name, place in included.items())
