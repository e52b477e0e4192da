"""`aebench verify` trains again and tells whether the result is the same."""

import json
from types import SimpleNamespace

import conftest
import numpy as np
import pytest

from aebench.commands import verify
from aebench.commands.verify import Results, compare, link_weights
from aebench.errors import AebenchError
from aebench.records.origin import Provenance
from aebench.workspace import Workspace


def test_trained_run_matches_bit_for_bit(baseline):
    before = sorted(path for path in baseline.folder.rglob("*") if ".git" not in path.parts)
    done = baseline.run("aebench", "verify", "cnn-latent10")
    last = done.stdout.splitlines()[-1]
    assert last.startswith("run 'cnn-latent10', seed 0: matches bit for bit: weights, codes, me")
    assert sorted(path for path in baseline.folder.rglob("*") if ".git" not in path.parts) == before


@pytest.fixture
def in_process(monkeypatch):
    """Runs the stages without processes of their own, of which each takes 3 s to import torch."""
    monkeypatch.setattr(
        verify, "call", lambda folder, words, *_: conftest.Workspace(folder).run("aebench", *words)
    )


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    content.pop("checksum", None)
    path.write_text(json.dumps(content))


def test_damaged_outcomes_are_no_other_machine(baseline):
    path = baseline / "results/mlp/0/outcomes.npy"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"7")
    done = baseline.run("aebench", "verify", "mlp", "0", ok=False)
    assert "results/mlp/0/outcomes.npy: not the content that was recorded" in done.stderr


def test_other_weights_on_the_same_machine_do_not_match(baseline, in_process):
    path = baseline / "results/mlp/0/train.json"
    edit(path, lambda train: train.update(weights_hash="0" * 64))
    done = baseline.run("aebench", "verify", "mlp", "0", ok=False)
    (line,) = done.stderr.splitlines()
    assert "does not match: other weights_hash on the same machine" in line


def test_elsewhere_a_tolerance_decides(baseline, in_process):
    folder = baseline / "results/mlp/0"
    edit(folder / "train.json", lambda t: t.update(weights_hash="0" * 64))
    edit(folder / "train.json", lambda t: t["provenance"].update(cpu="another"))
    done = baseline.run("aebench", "verify", "mlp")
    last = done.stdout.splitlines()[-1]
    assert "matches within the tolerance" in last and "train cpu: 'another', now" in last
    edit(folder / "encode.json", lambda encode: encode.update(mse=1.2 * encode["mse"]))
    (line,) = baseline.run("aebench", "verify", "mlp", ok=False).stderr.splitlines()
    assert "does not match" in line and "allowed there: MSE" in line


def stage(cpu="one", **figures):
    """Stands for a record."""
    origin = Provenance(cpu=cpu, cores=2, versions={}, commit=None, dirty=None, date="")
    return SimpleNamespace(status="ok", provenance=origin, **figures)


def alone(weights="w", accuracy=0.9, mse=None, **where):
    """The results of an encoder alone."""
    return Results(
        stage(weights_hash=weights, **where),
        stage(codes_hash=weights, mse=mse, file_hash=lambda name: weights, **where),
        stage(accuracy=accuracy, **where),
        weights,
    )


def test_encoder_alone_is_compared_by_what_it_has(capsys):
    compare("one", alone(), alone())
    assert capsys.readouterr().out == (
        "one: matches bit for bit: weights, codes, metrics and outcomes; accuracy 90.00 %, now "
        "90.00 %\n"
    )
    compare("one", alone(), alone("x", 0.89, cpu="two"))
    said = capsys.readouterr().out
    assert "matches within the tolerance: accuracy 90.00 %, now 89.00 %" in said
    assert "allowed there: accuracy 2 points" in said and "MSE" not in said


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (alone("x"), "other weights_hash, codes_hash, metrics_hash, outcomes_hash on"),
        (alone("x", 0.8, cpu="two"), "accuracy 90.00 %, now 80.00 %"),
        (alone(mse=0.1), "a decoder is there in one of the two alone"),
    ],
)
def test_encoder_alone_that_differs_does_not_match(new, said):
    with pytest.raises(AebenchError, match=f"one: does not match: .*{said}"):
        compare("one", alone(), new)


def test_what_cannot_be_verified_is_said_in_a_line(baseline):
    for arguments, words in (
        (["ml"], "unknown run 'ml' (did you mean 'mlp'?)"),
        (["mlp", "7"], "run 'mlp' has no seed 7; seeds: 0"),
    ):
        (line,) = baseline.run("aebench", "verify", *arguments, ok=False).stderr.splitlines()
        assert words in line
    source = baseline / "plugins/mlp.py"
    source.write_text(source.read_text().replace("nn.Sigmoid()", "nn.Identity()"))
    (line,) = baseline.run("aebench", "verify", "mlp", ok=False).stderr.splitlines()
    assert "the result of train is of other settings, plug-ins or code" in line


def test_two_processes_train_the_same_bits(baseline):
    """Away from DVC and with more than one thread, as a user's machine has it."""
    weights = baseline / "runs/cnn-latent10/0/weights.safetensors"
    baseline.apart = True
    baseline.env["OMP_NUM_THREADS"] = "2"
    found = []
    for _ in range(2):
        baseline.run("aebench", "train", "cnn-latent10", "0")
        found.append(weights.read_bytes())
    assert found[0] == found[1]
    assert np.frombuffer(found[0], np.uint8).size > 100_000


def test_weights_are_found_elsewhere_and_nothing_is_made_here(light, tmp_path):
    light.params(
        runs={
            "there": {"model": "light", "weights": "own/there.pt"},
            "gone": {"model": "light", "weights": "plugins/gone/it.pt"},
        }
    )
    (light / "own").mkdir()
    (light / "own/there.pt").write_bytes(b"weights")
    elsewhere = Workspace(tmp_path / "elsewhere")
    elsewhere.root.mkdir()
    elsewhere.plugins.symlink_to(light / "plugins")
    link_weights(Workspace(light.folder), elsewhere)
    assert (elsewhere.root / "own/there.pt").read_bytes() == b"weights"
    assert not (light / "plugins/gone").exists()
