"""A stage writes only what its plan, its code and its inputs give."""

import json
import os
import py_compile
import shutil

import numpy as np
import pytest
from conftest import LIGHT
from filelock import FileLock

from aebench import job
from aebench.errors import AebenchError
from aebench.fingerprint import known_fingerprint

# What a test wants to happen while the stage runs stands outside of what its key covers.
TAMPERED = LIGHT.replace(
    "    from torch import nn\n",
    "    import pathlib; exec(pathlib.Path('meanwhile.py').read_text(), {})\n"
    "    from torch import nn\n",
)
TAMPERED += "\ndef unused():\n    import _late\n"
EDIT = "from pathlib import Path; p = Path({path!r}); old = p.read_text(); p.write_text({text})\n"
IMPORTED = EDIT + "import sys, _late; sys.modules.pop('_late'); p.write_text(old)"


@pytest.fixture
def tampered(light):
    """`one` does what meanwhile.py says when it is built."""
    (light / "plugins/light.py").write_text(TAMPERED)
    (light / "plugins/_late.py").write_text("WIDTH = 1\n")
    (light / "meanwhile.py").touch()
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    return light


def result(workspace, stage="train"):
    path = workspace / f"results/one/0/{stage}.json"
    return json.loads(path.read_text()) if path.is_file() else None


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        (
            EDIT.format(path="plugins/light.py", text="old + 'x = 1\\n'"),
            "plan/one/train.json: made by other code than that here (plugins/light.py changed)",
        ),
        (
            EDIT.format(path="plugins/_late.py", text="'WIDTH = 2'"),
            "plan/one/train.json: made by other code than that here (plugins/_late.py changed)",
        ),
        (
            IMPORTED.format(path="plugins/_late.py", text="'WIDTH = 2'"),
            "plugins/light.py: _late.py changed while this stage ran, which uses the old content",
        ),
        (
            "import os; os.remove('plugins/light.py')",
            "plan/one/train.json: plugins/light.py: the plug-in is not there any more",
        ),
        (
            EDIT.format(path="plan/one/train.json", text="old.replace('3e-3', '4e-3') + ' '"),
            "plan/one/train.json: changed while this stage ran",
        ),
        (
            "import numpy as np; p = 'data/prepared/train_images.npy'\n"
            "a = 255 - np.load(p); import os; os.remove(p); np.save(p, a)",
            "data/prepared/train_images.npy: changed while this stage ran",
        ),
        (
            "import shutil; shutil.rmtree('data')",
            "data/prepared/meta.json: changed while this stage ran",
        ),
    ],
)
def test_what_changes_while_a_stage_runs_is_no_result(tampered, meanwhile, words):
    (tampered / "meanwhile.py").write_text(meanwhile)
    *_, line = tampered.run("aebench", "train", "one", "0", ok=False).stderr.splitlines()
    assert line.startswith(f"aebench: error: {words}") and "run `" in line
    assert result(tampered) is None and not list((tampered / "runs").rglob("*.*"))


@pytest.mark.parametrize(
    "meanwhile",
    [
        EDIT.format(path="plugins/light.py", text="old + '# more'"),
        IMPORTED.format(path="plugins/_late.py", text="old + '# more'"),
        EDIT.format(path="params.yaml", text="old.replace('epochs: 1', 'epochs: 7')"),
        "import os; p = 'data/prepared/train_images.npy'; os.chmod(p, 0o444)\n"
        "os.path.exists('link') or os.link(p, 'link')",
    ],
)
def test_what_changes_no_content_costs_no_result(tampered, meanwhile):
    (tampered / "meanwhile.py").write_text(meanwhile)
    tampered.run("aebench", "train", "one", "0")
    assert result(tampered)["status"] == "ok"


@pytest.mark.parametrize("verb", ["prepare", "train", "encode", "knn", "report"])
def test_code_of_another_version_computes_nothing(finished, tmp_path, monkeypatch, verb):
    """As on a worker: before it has read anything, after the imports, when it writes."""
    workspace = type(finished)(tmp_path / "workspace")
    shutil.copytree(finished.folder, workspace.folder)
    arguments = [verb, "mlp", "0"] if verb in ("train", "encode", "knn") else [verb]
    before = {path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*.json")}
    for asked in (2, 3, 4):  # the first asks for the names of the modules alone
        calls = []

        def other(at, stage, *more, asked=asked, calls=calls):
            calls.append(stage)
            found, modules = known_fingerprint(at, stage, *more)
            edited = modules | {"aebench.models.encoding": "0" * 12}
            return ("0" * 64, edited) if len(calls) == asked else (found, modules)

        monkeypatch.setattr(job, "known_fingerprint", other)
        *_, line = workspace.run("aebench", *arguments, ok=False).stderr.splitlines()
        assert "made by other code than that here (aebench.models.encoding" in line
        assert "run `dvc repro` again" in line
    after = {path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*.json")}
    assert after.items() >= before.items()


def test_a_second_writer_is_refused(tampered, monkeypatch):
    monkeypatch.setattr(job, "WAIT", 0.1)
    (tampered / ".aebench/locks").mkdir(parents=True, exist_ok=True)
    with FileLock(tampered / ".aebench/locks/train-one-0"):
        (line,) = tampered.run("aebench", "train", "one", "0", ok=False).stderr.splitlines()
    assert "another `aebench train one 0` is writing the same files; wait for its end" in line
    assert result(tampered) is None
    tampered.run("aebench", "train", "one", "0")


def test_a_plug_ins_bytecode_is_not_believed(tampered):
    """Python takes that of an edit of the same size and second for the file's."""
    helper = tampered / "plugins/_late.py"
    helper.write_text("WIDTH = 2\n")
    os.utime(helper, (1e9, 1e9))
    tampered.run("python", "-c", "import py_compile as p; p.compile('plugins/_late.py')")
    helper.write_text("WIDTH = 1\n")
    os.utime(helper, (1e9, 1e9))
    (tampered / "meanwhile.py").write_text("import _late; assert _late.WIDTH == 1")
    tampered.run("aebench", "train", "one", "0")
    assert result(tampered)["status"] == "ok"


def test_a_file_of_a_folder_plug_in_is_watched(light):
    """What of it was read nobody knows: so an edit is refused that was undone, too."""
    folder = light / "plugins/light"
    folder.mkdir()
    (light / "plugins/light.py").rename(folder / "__init__.py")
    source = (folder / "__init__.py").read_text()
    meanwhile = "    from pathlib import Path; p = Path('plugins/light/scale.txt')\n"
    meanwhile += "    p.write_text('0'); p.write_text('1')\n    from torch import nn\n"
    (folder / "__init__.py").write_text(source.replace("    from torch import nn\n", meanwhile))
    (folder / "scale.txt").write_text("1")
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    *_, line = light.run("aebench", "train", "one", "0", ok=False).stderr.splitlines()
    assert line.endswith(
        "plugins/light/scale.txt: changed while this stage ran; run `dvc repro` again"
    )
    assert result(light) is None


def test_code_that_changes_while_it_is_imported(tampered, monkeypatch):
    """What of it was imported nobody knows, also where it is the same again."""
    source = tampered / "module.py"
    source.write_text("X = 1\n")
    monkeypatch.setattr(job, "sources", lambda modules: [source])
    load = job.importlib.import_module
    monkeypatch.setattr(job.importlib, "import_module", lambda n: (source.touch(), load(n))[1])
    *_, line = tampered.run("aebench", "train", "one", "0", ok=False).stderr.splitlines()
    assert line.endswith("module.py: changed while this stage ran; run `dvc repro` again")


def test_bytecode_of_an_older_source(tmp_path):
    source = tmp_path / "module.py"
    for content, words in (("X = 1\n", None), ("X = 2\n", "of another content than")):
        source.write_text(content)
        os.utime(source, (1e9, 1e9))
        if words is None:
            cached = py_compile.compile(str(source), doraise=True)
            os.utime(cached, (2e9, 2e9))
            job.check_bytecode(source)
            os.utime(cached, (1e9, 1e9))
            job.check_bytecode(source)
    with pytest.raises(AebenchError, match=words):
        job.check_bytecode(source)
    source.write_text("X = 1234\n")
    job.check_bytecode(source)


@pytest.mark.parametrize("run", ["./mlp", "../plan/mlp", "mlp/0", "no\nrun", "x" * 300, "MLP", ""])
def test_a_run_that_is_not_planned(finished, run):
    (line,) = finished.run("aebench", "train", run, "0", ok=False).stderr.splitlines()
    assert "unknown run " in line and "runs: mlp, cnn-latent10, pixels" in line
    (line,) = finished.run("aebench", "train", "mlp", "7", ok=False).stderr.splitlines()
    assert "run 'mlp' has no seed 7; seeds: 0" in line


def flip(path, place=-3):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


READ = [
    ("data/prepared/train_images.npy", "train"),
    ("data/prepared/train_labels.npy", "train"),
    ("data/prepared/meta.json", "train"),
    ("results/data.json", "train"),
    ("runs/mlp/0/weights.safetensors", "encode"),
    ("results/mlp/0/train.json", "encode"),
    ("data/prepared/test_images.npy", "encode"),
    ("runs/mlp/0/train_codes.npy", "knn"),
    ("runs/mlp/0/test_codes.npy", "knn"),
    ("results/mlp/0/encode.json", "knn"),
    ("data/prepared/test_labels.npy", "knn"),
    ("data/prepared/meta.json", "knn"),
]
DAMAGES = ["cut", "empty", "gone", "other", "folder"]


@pytest.mark.parametrize(
    ("name", "verb", "damage"),
    [(*read, "flipped") for read in READ] + [(*READ[8], damage) for damage in DAMAGES],
)
def test_a_stage_reads_what_was_recorded_or_says_which_file(
    reused, monkeypatch, name, verb, damage
):
    monkeypatch.setattr("aebench.cli.mended", lambda workspace, error: str(error))
    path = reused / name
    whole = path.read_bytes()
    path.chmod(0o644)
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "other":
        with path.open("wb") as file:
            np.save(file, np.arange(5))
    elif damage != "gone":
        path.write_bytes({"cut": whole[:-3], "empty": b""}.get(damage, whole))
        if damage == "flipped":
            flip(path)
    done = reused.run("aebench", verb, "mlp", "0", ok=False)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(whole)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"aebench: error: {name}: ")
    assert "run `" in line or "Is a directory" in line


@pytest.fixture(scope="module")
def reused(finished, tmp_path_factory):
    """A copy for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("reused") / "workspace"
    shutil.copytree(finished.folder, folder)
    return type(finished)(folder)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file that cannot be read")
def test_a_source_that_a_broken_disk_does_not_give_is_named(tampered):
    (tampered / "plugins/light.py").unlink()
    (tampered / "plugins/light.py").symlink_to("/proc/self/mem")
    for verb in (["plan"], ["train", "one", "0"]):
        *_, line = tampered.run("aebench", *verb, ok=False).stderr.splitlines()
        assert "plugins/light.py" in line and "Input/output error" in line
