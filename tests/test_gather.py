"""Results of an earlier version and of several folders, rendered as one report."""

import csv
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Workspace

from aebench.errors import AebenchError
from aebench.records.encode import EncodeRecord
from aebench.records.knn import KnnRecord
from aebench.records.train import TrainRecord
from aebench.report.gather import gather
from aebench.report.render import files
from aebench.sprite import sprite
from aebench.workspace import json_bytes, sha256

hooks = []  # an audit hook cannot be taken away again
sys.addaudithook(lambda event, arguments: [hook(event, arguments) for hook in hooks])
# Results as aebench 0.1.0 wrote them (plan/ and results/) and what this version makes of them.
# To renew: cd tests/golden && aebench report --results .
GOLDEN = ROOT / "tests/golden"


def test_results_of_the_first_version_are_rendered_as_ever():
    found = files(gather([GOLDEN]))
    for name in ("report.md", "results.csv", "metrics.json"):
        assert found[name].decode() == (GOLDEN / "reports" / name).read_text(), name


def test_report_command_renders_a_folder(light, tmp_path):
    done = light.run("aebench", "report", "--results", str(GOLDEN), ok=False)
    assert "reports: would be replaced, and is this workspace's own" in done.stderr
    folder = Workspace(tmp_path)
    done = folder.run("aebench", "report", "--results", str(GOLDEN))
    assert done.stderr == "aebench: 2 of 20 runs failed\n"
    assert done.stdout.startswith("wrote reports/report.md")
    text = (folder / "reports/report.md").read_bytes()
    assert text == (GOLDEN / "reports/report.md").read_bytes()
    assert (folder / "reports/figures/reconstructions.png").stat().st_size > 1000
    done = folder.run("aebench", "report", "--results", "nope", ok=False)
    assert done.stderr.startswith("aebench: error: nope: no such folder")


def test_each_file_is_read_once():
    opened = Counter()

    def watch(event, arguments):
        if event == "open" and str(GOLDEN / "results") in str(arguments[0]):
            opened[str(arguments[0])] += 1

    hooks.append(watch)
    files(gather([GOLDEN]))
    hooks.remove(watch)
    names = ("train.json", "encode.json", "knn.json", "outcomes.npy", "gallery.npy")
    assert {path.rpartition("/")[2] for path in opened} == {"data.json", *names}
    # encode.json of the first version asks train.json for the sizes.
    assert {path for path, count in opened.items() if count > 1} == {
        path for path in opened if path.endswith("/train.json")
    }


@pytest.fixture
def copies(tmp_path):
    """Anna's and Ben's results: equal copies to be changed."""
    for name in ("anna", "ben"):
        shutil.copytree(GOLDEN, tmp_path / name)
    return [tmp_path / "anna", tmp_path / "ben"]


def edit(path, **changes):
    content = json.loads(path.read_text()) | changes
    content = {key: value for key, value in content.items() if key not in ("checksum", "files")}
    if content.get("plan"):
        content["plan_hash"] = sha256(json_bytes(content["plan"]))
    path.write_text(json.dumps(content))


def only(folder, run, *seeds):
    """Remove all other results."""
    for path in folder.glob("results/*/*/"):
        if path.parent.name != run:
            shutil.rmtree(path.parent, ignore_errors=True)
        elif int(path.name) not in seeds:
            shutil.rmtree(path)


def test_seeds_of_two_people_are_one_configuration(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp", 1)
    found = gather(copies)
    assert found.seeds == [0, 1] and found.runs == ["mlp"]
    assert found.remarks == ["Results from anna: 1.", "Results from ben: 1."]
    text = files(found)["report.md"].decode()
    assert "figures are means of 2 seeds" in text and "Results from ben: 1." in text
    assert [row["source"] for row in rows(found)] == ["anna", "ben"]


def rows(found):
    return list(csv.DictReader(files(found)["results.csv"].decode().splitlines()))


def test_what_is_there_twice_is_shown_once(copies):
    anna, ben = copies
    outcomes = ben / "results/mlp/0/outcomes.npy"
    votes = np.load(outcomes)
    votes["prediction"] = 0
    np.save(outcomes, votes)
    found = gather(copies)
    assert len(found.results) == 20
    other = "mlp, seed 0, of ben: other outcomes than that of anna"
    failed = [f"broken, seed {seed}, of ben: failed, as that of anna" for seed in (0, 1)]
    assert found.hidden == [other, *failed]
    assert found.remarks[1] == "Results from ben: 0, 17 more are equal to others'."
    assert files(found)["report.md"].decode().count("Not shown:") == 1


def test_what_one_of_two_folders_lacks_is_taken_from_the_other(finished, tmp_path):
    for name in ("anna", "ben"):
        for part in ("plan", "results"):
            shutil.copytree(finished / part, tmp_path / name / part)
    anna, ben = tmp_path / "anna", tmp_path / "ben"
    first, *others = sorted(anna.glob("results/*/*/stress.json"))
    first.write_text("{}")
    for path in others:
        path.unlink()
    found = gather([anna, ben])
    assert {one.source for one in found.results} == {"anna"}
    assert all(one.stress and one.columns["stress_accuracy"] for one in found.results if one.ok)
    assert not any(one.unread for one in found.results)
    assert f"{first.parent.parent.name}, stress, of anna: " in "".join(found.hidden)
    assert found.codecs
    plan = json.loads((anna / "plan/report.json").read_text())
    (anna / "plan/report.json").write_text(json.dumps(plan | {"codecs": "0" * 64}))
    found = gather([anna])
    assert found.codecs is None
    assert "results/codecs.json is of other images or settings" in "".join(found.hidden)


def test_a_result_takes_the_place_of_a_failed_one(copies):
    anna, ben = copies
    edit(anna / "results/mlp/0/knn.json", status="failed: no codes")
    found = gather(copies)
    shown = next(one for one in found.results if one.original == "mlp-0")
    assert shown.ok and shown.source == "ben"
    assert "mlp, seed 0, of anna: failed there" in found.hidden


def test_a_holdout_is_titled_and_never_beside_the_test_set(copies):
    anna, ben = copies
    plan = json.loads((ben / "plan/data.json").read_text()) | {"holdout": 0.1}
    edit(ben / "results/data.json", plan=plan)  # even where the arrays happened to be the same
    shown = json.loads((ben / "plan/report.json").read_text())
    text = json.dumps(shown | {"trials": {"mlp": "12 settings, on holdout"}})
    (ben / "plan/report.json").write_text(text)
    found = gather(copies)
    assert found.hidden[0].startswith("all of ben: of other data (digits of HOLDOUT 0.1, hash ")
    assert {one.source for one in found.results} == {"anna"}
    assert {one.columns["holdout"] for one in found.results} == {None}
    only(ben, "mlp", 0, 1)
    own = files(gather([ben]))
    report, page = own["report.md"].decode(), own["report.html"].decode()
    assert report.startswith("# HOLDOUT 0.1 of digits: what a representation costs")
    for part in ("title", "h1"):
        assert f"<{part}>HOLDOUT 0.1 of digits: " in page
    assert "1,438 training and 359 held-out images" in report
    assert report.count("**HOLDOUT**: a share of 0.1 of the training images of each class, ") == 2
    assert "- mlp: trials: 12 settings, on holdout." in report
    assert "trials: 12 settings, on holdout." in page
    for row in csv.DictReader(own["results.csv"].decode().splitlines()):
        assert (row["holdout"], row["trials"]) == ("0.1", "12 settings, on holdout")


def test_equal_names_of_other_settings_are_told_apart(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp-latent8", 0)
    shutil.move(ben / "results/mlp-latent8", ben / "results/mlp")
    for stage in ("train", "encode", "knn"):
        shutil.move(ben / f"plan/mlp-latent8/{stage}.json", ben / f"plan/mlp/{stage}.json")
    found = gather(copies)
    assert found.runs == ["mlp", "mlp (ben)"]
    assert [(row["run"], row["latent"]) for row in rows(found)] == [
        ("mlp", "16"),
        ("mlp (ben)", "8"),
    ]


@pytest.mark.parametrize("way", ["twice", "of one name", "its results/", "from inside"])
def test_a_folder_is_known_by_where_it_lies(copies, tmp_path, monkeypatch, way):
    anna, ben = copies
    if way == "of one name":
        for folder in copies:
            (tmp_path / "at" / folder.name).mkdir(parents=True)
            shutil.move(folder, tmp_path / "at" / folder.name / "bench")
        found = gather([tmp_path / "at/anna/bench", tmp_path / "at/ben/bench"])
        assert found.remarks[0] == "Results from anna/bench: 20."
    elif way == "from inside":
        monkeypatch.chdir(anna / "results")
        found = gather([Path()])
    else:
        found = gather([anna, anna if way == "twice" else anna / "results"])
        assert not found.remarks and not found.hidden
    assert len(found.results) == 20


def as_now(folder):
    """Write the results in the form of this version."""
    for path in folder.glob("results/*/*/"):
        kinds = {"encode": EncodeRecord, "knn": KnnRecord, "train": TrainRecord}
        for stage, kind in kinds.items():  # encode asks train for the sizes
            file = path / f"{stage}.json"
            file.write_bytes(kind.read(file, "dvc repro").json_bytes())
            edit(file)  # its plan has another form, too
        (path / "gallery.npy").rename(path / "examples.npy")
        content = (path / "outcomes.npy").read_bytes()
        if content:
            outcomes = np.load(path / "outcomes.npy")
            np.save(path / "squared_errors.npy", outcomes["squared_error"])
            votes = np.empty(len(outcomes), [("label", "u1"), ("prediction", "u1")])
            votes["label"], votes["prediction"] = outcomes["label"], outcomes["prediction"]
            np.save(path / "outcomes.npy", votes)


def test_both_forms_give_one_report(copies):
    as_now(copies[0])
    shutil.rmtree(copies[0] / "plan")  # the results say their settings
    shutil.copytree(GOLDEN / "plan", copies[0] / "plan")
    text = files(gather(copies[:1]))["report.md"].decode()
    assert text == (GOLDEN / "reports/report.md").read_text()


def test_other_code_of_equal_settings_is_no_study(copies):
    for folder in copies:
        as_now(folder)
        shutil.rmtree(folder / "plan")
    for path in copies[1].glob("results/*/*/*.json"):
        plan = json.loads(path.read_text())["plan"]
        edit(path, plan=plan | {"fingerprints": plan["fingerprints"] | {"aebench": "0" * 64}})
    found = gather(copies)
    assert "mlp (ben)" in found.runs and len(found.results) == 40
    titles = re.findall("^## (.*)", files(found)["report.md"].decode(), re.MULTILINE)
    assert {"In short", "Results", "Representation size", "Depth"} <= {*titles}
    assert not [title for title in titles if title.startswith("Parameter")]


def without_decoder(folder, run):
    """The run's results as those of an encoder alone, and no other than these."""
    only(folder, run, 0, 1)
    for path in folder.glob(f"results/{run}/*"):
        known = json.loads((path / "encode.json").read_text())["sizes"]
        sizes = known | {key: 0 for key in known if key.startswith("decoder_")}
        edit(path / "encode.json", mse=None, psnr=None, mse_8bit=None, sizes=sizes)
        edit(path / "train.json", labels_seen=True, curves={"a|b": [0.5, None, 0.25]})
        np.save(path / "squared_errors.npy", np.empty(0, np.float32))
        np.save(path / "examples.npy", np.empty((0, 1, 8, 8), np.uint8))


def test_encoders_alone_are_read_and_gathered(copies):
    anna, ben = copies
    for folder in copies:
        as_now(folder)
        shutil.rmtree(folder / "plan")
    without_decoder(anna, "mlp")
    only(ben, "pca", 0, 1)
    found = gather(copies)
    assert not found.hidden and len(found.results) == 4
    for row in rows(found)[:2]:
        assert (row["status"], row["mse"], row["mse_ci95"], row["labels_seen"]) == (
            ("ok", "", "", "True")
        )
        assert float(row["accuracy"]) > 0.9 and row["decoder_layers"] == "0"
    written = files(found)
    assert "| mlp (saw labels) |" in written["report.md"].decode()
    assert (
        any("figures/further_curves-" in name for name in written)
        and written["figures/reconstructions.png"]
    )
    only(anna, "mlp", 0)
    alone = files(gather([anna]))
    assert json.loads(alone["metrics.json"])["mse"] == {}
    assert "figures/reconstructions.png" not in alone and "| MSE" not in alone["report.md"].decode()


def test_encoders_alone_that_are_there_twice_are_compared(copies):
    for folder in copies:
        as_now(folder)
        shutil.rmtree(folder / "plan")
        without_decoder(folder, "mlp")
    assert gather(copies).remarks[1] == "Results from ben: 0, 2 more are equal to others'."
    as_before = copies[1] / "results/mlp/0"  # of one name and settings, but it decodes
    edit(as_before / "encode.json", mse=0.01, psnr=20.0)
    np.save(as_before / "squared_errors.npy", np.full(359, 0.01, np.float32))
    np.save(as_before / "examples.npy", np.zeros((10, 1, 8, 8), np.uint8))
    assert gather(copies).hidden == ["mlp, seed 0, of ben: other outcomes than that of anna"]


@pytest.mark.parametrize("name", ["squared_errors.npy", "examples.npy"])
def test_errors_of_no_image_need_an_encoder_alone(copies, name):
    as_now(copies[0])
    path = copies[0] / "results/mlp/0" / name
    np.save(path, np.load(path)[:0])
    (hidden,) = gather(copies[:1]).hidden
    assert f"mlp, seed 0: {name} is of 0 images, not of" in hidden


def with_pictures(folder, run, seed, maps=1):
    """What later versions than that of the results write beside them."""
    path = folder / f"results/{run}/{seed}"
    np.save(path / "worst.npy", np.full((2, 10, 1, 8, 8), seed, np.uint8))
    np.save(path / "code_map.npy", np.full((maps, 359, 2), seed, np.uint8))
    images = np.full((359, 1, 8, 8), seed, np.uint8)
    (folder / "results/sprite.webp").write_bytes(sprite(images))


def test_maps_worst_images_and_sprite_are_read_where_they_are(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp", 1)
    with_pictures(ben, "mlp", 1, maps=2)
    found = gather(copies)
    assert not [line for line in found.hidden if "no result" not in line]
    old, new = found.results
    assert old.worst is None and old.code_map is None
    assert new.worst.shape == (2, 10, 1, 8, 8) and new.code_map.shape == (2, 359, 2)
    assert found.sprite == (ben / "results/sprite.webp").read_bytes()
    edit(ben / "results/data.json", data_hash="f" * 64)
    assert gather(copies).sprite is None
    assert files(found)["report.md"]


def test_other_first_seeds_are_no_other_configuration(copies):
    for folder, seed in zip(copies, (0, 1), strict=True):
        as_now(folder)
        shutil.rmtree(folder / "plan")
        only(folder, "mlp", seed)
        path = folder / f"results/mlp/{seed}/encode.json"
        edit(path, plan=json.loads(path.read_text())["plan"] | {"first_seed": seed})
    found = gather(copies)
    assert [(one.run, one.seed) for one in found.results] == [("mlp", 0), ("mlp", 1)]
    assert len({one.key for one in found.results}) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("worst", np.zeros((2, 10, 1, 8, 8)), "holds float64 (2, 10, 1, 8, 8), no pairs of test"),
        ("worst", np.zeros((2, 10, 3, 8, 8), np.uint8), "holds uint8 (2, 10, 3, 8, 8), no pairs"),
        ("worst", np.zeros((2, 0, 1, 8, 8), np.uint8), "holds uint8 (2, 0, 1, 8, 8), no pairs"),
        ("worst", b"\x93NUMPY", "is not whole"),
        ("code_map", np.zeros((1, 358, 2), np.uint8), "holds uint8 (1, 358, 2), no places of 359"),
        ("code_map", np.zeros((3, 359, 2), np.uint8), "holds uint8 (3, 359, 2), no places of 359"),
        ("code_map", np.zeros(()), "holds float64 (), no places of 359"),
        ("code_map", b"", "is not whole"),
    ],
)
def test_damaged_pictures_hide_their_row(copies, name, content, reason):
    folder = copies[0]
    with_pictures(folder, "mlp", 0)
    path = folder / f"results/mlp/0/{name}.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    found = gather([folder])
    (hidden,) = found.hidden
    assert hidden.startswith(f"mlp, seed 0: {name}.npy {reason}") and len(found.results) == 19


def test_a_result_of_another_seed(copies):
    folder = copies[0] / "results/mlp"
    shutil.copytree(folder / "1", folder / "0", dirs_exist_ok=True)
    (hidden,) = gather(copies[:1]).hidden
    assert hidden == "mlp, seed 0: the result of train is of another seed"


@pytest.mark.parametrize("name", ["examples", "worst", "code_map", "outcomes"])
def test_a_file_that_was_recorded_and_is_gone(finished, tmp_path, name):
    folder = Workspace(tmp_path / "workspace")
    shutil.copytree(finished.folder, folder.folder)
    (folder / f"results/mlp/0/{name}.npy").unlink()
    (hidden,) = gather([folder.folder]).hidden
    assert hidden == f"mlp, seed 0: {name}.npy is not there"


def test_a_checksum_is_not_to_be_left_out(finished, tmp_path):
    shutil.copytree(finished / "results", tmp_path / "results")
    path = tmp_path / "results/mlp/0/encode.json"
    content = json.loads(path.read_text()) | {"mse": 0.001, "checksum": None}
    path.write_text(json.dumps(content))
    (hidden,) = gather([tmp_path]).hidden
    assert "encode.json: damaged or edited: its content is not what its checksum says" in hidden


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_a_damaged_sprite_is_told(copies, damage):
    with_pictures(copies[0], "mlp", 0)
    path = copies[0] / "results/sprite.webp"
    contents = {"cut": path.read_bytes()[:-20], "empty": b"", "text": b"RIFF 1234 WEBP"}
    path.write_bytes(contents.get(damage, sprite(np.zeros((9, 1, 8, 8), np.uint8))))
    found = gather(copies[:1])
    (hidden,) = found.hidden
    reason = "of (320, 8) pixels, not of (320, 72)" if damage == "other" else "not whole ("
    assert hidden.startswith(f"the images of the maps: sprite.webp is {reason}")
    assert found.sprite is None and len(found.results) == 20
    with_pictures(copies[1], "mlp", 0)
    assert gather(copies).sprite


def test_near_duplicates_are_those_of_the_first_folder_that_has_them(copies):
    about = {"rule": "distance", "count": 28, "recognised": 0}
    edit(copies[1] / "results/data.json", near_duplicates=about)
    path, images = copies[1] / "results/near_duplicates.npy", np.arange(359) < 28
    np.save(path, images)
    assert (gather(copies).near.images == images).all()
    for content in (images[1:], ~images, images.astype(int)):
        np.save(path, content)
        found = gather(copies)
        assert any("the near-duplicates, of ben: near_duplicates.npy " in h for h in found.hidden)
        assert found.near is None and found.results


def test_other_data_is_not_mixed_in(copies):
    anna, ben = copies
    edit(ben / "results/data.json", data_hash="f" * 64, dataset="pets")
    np.save(ben / "results/examples.npy", np.zeros((10, 3, 32, 32), np.uint8))
    found = gather(copies)
    assert found.hidden == ["all of ben: of other data (pets, hash ffffffffffff)"]
    assert {result.source for result in found.results} == {"anna"} and found.originals is None


def test_other_protocols_are_not_mixed_in(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp", 0, 1)
    for stage, seeds in (("encode", (0,)), ("knn", (0, 1))):
        for seed in seeds:
            path = ben / f"results/mlp/{seed}/{stage}.json"
            edit(path, provenance=json.loads(path.read_text())["provenance"] | {"protocol": 9})
    path = anna / "results/mlp/0/knn.json"  # 2 has 1's figures and more
    edit(path, provenance=json.loads(path.read_text())["provenance"] | {"protocol": 2})
    found = gather(copies)
    assert found.results
    hidden = [line for line in found.hidden if "no result of train" not in line]
    assert hidden == [
        "mlp, seed 0, of ben: of protocol 9",
        "mlp, seed 1, of ben: encode and knn measured by different protocols",
    ]


def test_versions_and_machines_that_differ_are_in_the_report(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp", 1)
    path = ben / "results/mlp/1/train.json"
    origin = json.loads(path.read_text())["provenance"]
    versions = origin["versions"] | {"torch": "9.9"}
    edit(path, provenance=origin | {"cpu": "Another 9000", "versions": versions})
    text = files(gather(copies))["report.md"].decode()
    table = text.split("## Where the rows differ")[1]
    assert "torch_version" in table and "9.9" in table and "Another 9000" in table
    assert "mlp-1 (ben)" in table


def test_commands_name_the_run_where_it_is(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp", 1)
    edit(ben / "results/mlp/1/train.json", status="failed: no luck")
    text = files(gather(copies))["report.md"].decode()
    assert "Again in ben: `dvc repro -s -f train@mlp-1 && dvc repro`" in text


@pytest.mark.parametrize("name", ["train.json", "knn.json", "outcomes.npy", "gallery.npy"])
@pytest.mark.parametrize("fault", ["missing", "half", "a pointer"])
def test_what_is_broken_or_missing_is_said(copies, name, fault):
    path = copies[0] / "results/mlp/0" / name
    content = path.read_bytes()
    path.unlink()
    if fault != "missing":
        path.write_bytes(content[: len(content) // 2] if fault == "half" else b"version https://")
    found = gather(copies[:1])
    if (name, fault) == ("gallery.npy", "missing"):  # a picture less
        assert not found.hidden
    else:
        (hidden,) = found.hidden
        assert hidden.startswith("mlp, seed 0: ") and "\n" not in hidden
        assert len(found.results) == 19


@pytest.mark.parametrize("fault", ["no fields", "prediction", "squared_error"])
def test_outcomes_that_no_stage_writes_are_not_shown(copies, fault):
    path = copies[0] / "results/mlp/0/outcomes.npy"
    votes = np.load(path)
    if fault == "no fields":
        votes = votes["label"]
    else:
        votes[fault][3] = {"prediction": 10, "squared_error": np.nan}[fault]
    np.save(path, votes)
    (hidden,) = gather(copies[:1]).hidden
    assert "among 10 classes" in hidden or "not finite" in hidden


def test_folders_that_are_no_run_are_passed_over(copies):
    shutil.rmtree(copies[0] / "plan")
    as_now_without = copies[0] / "results"
    for name in ("x; touch PWNED #/0", "mlp/00", "mlp/notes"):
        (as_now_without / name).mkdir(parents=True)
    with pytest.raises(AebenchError, match="nothing in it can be shown") as error:
        gather(copies[:1])
    assert "PWNED" not in str(error.value) and "settings are not known" in str(error.value)


def test_defaults_without_a_plan_are_the_commonest(copies):
    as_now(copies[0])
    shutil.rmtree(copies[0] / "plan")
    found = gather(copies[:1])
    assert (found.latent, found.depth, found.knn["k"]) == (16, 2, 10)
    only(copies[0], "pixels", 0)
    found = gather(copies[:1])
    assert (found.latent, found.depth) == (None, None) and files(found)["report.md"]


def test_folder_without_results_is_one_line(tmp_path):
    with pytest.raises(AebenchError, match=r"data.json: not there; run `dvc repro` first"):
        gather([tmp_path])
