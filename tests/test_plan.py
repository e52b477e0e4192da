"""Bad input: one clear line for each fault, exit 1, nothing half-written."""

import json
import shutil

import pytest
from conftest import LIGHT, ROOT, SMALL

HEAD = SMALL[: SMALL.index("runs:")]
ONE = HEAD + "runs:\n  one:\n    model: light\n"


def refused(workspace, params=None):
    """The error lines of `aebench plan`, which must leave plan/ as it was."""
    workspace.run("aebench", "plan")
    before = {p: p.read_bytes() for p in (workspace / "plan").rglob("*.json")}
    if params is not None:
        (workspace / "params.yaml").write_text(params)
    done = workspace.run("aebench", "plan", ok=False)
    assert done.returncode == 1 and done.stdout == ""
    assert {p: p.read_bytes() for p in (workspace / "plan").rglob("*.json")} == before
    return [line.removeprefix("aebench: error: ") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("latent: 32", "latnet: 32", "latnet: unknown key (did you mean 'latent'?)"),
        ("latent: 32", "", "params.yaml: latent: missing; add it"),
        ("latent: 32", "latent: 0", "latent: got 0; allowed: greater than or equal to 1"),
        ("latent: 32", "latent: 100.0", "latent: got 100.0; allowed: integer; write 100"),
        ("latent: 32", "latent: many", "latent: got 'many'; allowed: integer"),
        ("  epochs: 1", "  epoch: 1", "train.epoch: unknown key (did you mean 'epochs'?)"),
        ("0.003", "-1", "train.learning_rate: got -1; allowed: greater than 0"),
        ("faiss", "fais", "knn.backend: got 'fais' (did you mean 'faiss'?); allowed: 'faiss' or"),
        ("metric: l2", "metric: l1", "knn.metric: got 'l1'; allowed: 'l2', 'cosine' or"),
        ("digits", "digit", "dataset: unknown data set 'digit' (did you mean 'digits'?)"),
        ("k: 10", "k: true", "knn.k: got True; allowed: integer"),
        ("  - 0", "  - 0\n  - 0", "seeds: got 0 more than once; allowed: distinct integers"),
        ("  - 0", "  - -1", "seeds.0: got -1; allowed: greater than or equal to 0"),
        ("seeds:\n  - 0", "seeds: []", "seeds: empty; give at least one"),
        ("  one:\n    model: light", "  {}", "runs: empty; give at least one"),
        ("  one:", "  One!:", "runs.One!: got 'One!'; allowed: names like"),
        ("model: light", "model: lihgt", "runs.one.model: unknown model 'lihgt' (did you mean"),
        ("  one:\n    model: light", "  one:", "runs.one: got None; allowed: a mapping"),
        ("    model: light", "    latent: 3", "params.yaml: runs.one.model: missing; add it"),
        ("light\n", "light\n    bta: 2\n", "runs.one.bta: unknown key (did you mean 'beta'?)"),
        ("light\n", "light\n    depth: 2\n", "runs.one.depth: model 'light' does not use depth"),
        ("light\n", "light\n    seeds: [1]\n", "runs.one.seeds: a run cannot override 'seeds'"),
        ("light\n", "light\n    knn:\n      k: 0\n", "runs.one.knn.k: got 0; allowed: greater"),
        ("light\n", "light\n    knn:\n      q: 0\n", "runs.one.knn.q: unknown key; allowed: k,"),
        ("latent: 32", "latent: 32\nholdout: 0", "holdout: got 0; allowed: greater than 0"),
        ("latent: 32", "latent: 32\nholdout: 1", "holdout: got 1; allowed: less than 1"),
        ("latent: 32", "latent: 32\nholdout: 10 %", "holdout: got '10 %'; allowed: number"),
        ("light\n", "light\n    holdout: 0.1\n", "runs.one.holdout: a run cannot override 'hold"),
        ("light\n", "light\n    trials: 12\n", "runs.one.trials: got 12; allowed: string"),
        ("light\n", "light\n    trials: ''\n", "runs.one.trials: got ''; allowed: a line of at"),
        ("light\n", f"light\n    trials: {'a' * 101}\n", "at most 100 printable characters"),
        ("light\n", 'light\n    trials: "a\\nb"\n', "runs.one.trials: got 'a\\nb'; allowed: a li"),
        ("light\n", "light\n  one:\n    model: x\n", 'found duplicate key "one"; remove one'),
    ],
)
def test_one_line_for_a_wrong_parameter(light, old, new, expected):
    assert old in ONE
    lines = refused(light, ONE.replace(old, new, 1))
    # A misspelt key is a missing one, too.
    assert [line for line in lines if expected in line], lines
    assert len(lines) == 1 + ("unknown key" in expected and ": runs." not in lines[-1])
    assert all(line.startswith("params.yaml: ") for line in lines)


def test_all_faults_at_once(light):
    params = ONE.replace("latent: 32", "latent: 0").replace("  k: 10", "  k: ten\n  q: 1")
    params = params.replace("  - 0", "  - 0\n  - 0") + (
        "  two:\n    model: nosuch\n  three:\n    latent: 1\n"
        "  four:\n    model: light\n    train:\n      epoch: 1\n    colour: red\n"
    )
    lines = refused(light, params.replace("digits", "nosuch"))
    for place in (
        "latent: got 0",
        "knn.k: got 'ten'",
        "knn.q: unknown",
        "seeds: got 0 more",
        "dataset: unknown data set",
        "runs.two.model: unknown model",
        "runs.three.model: missing",
        "runs.four.train.epoch: unknown key",
        "runs.four.colour: unknown key",
    ):
        assert [line for line in lines if line.startswith(f"params.yaml: {place}")], (place, lines)
    assert len(lines) == 9


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "params.yaml: got nothing; allowed: keys dataset, "),
        (b"- 1\n", "params.yaml: got list; allowed: keys dataset, "),
        (b"\x80\xff\x00", "params.yaml: not a text file in UTF-8"),
        (b"a: [1\n", "params.yaml: not YAML: "),
        (None, "params.yaml: not there; run aebench in a workspace that has one"),
    ],
)
def test_unreadable_params(light, content, expected):
    light.run("aebench", "plan")
    if content is None:
        (light / "params.yaml").unlink()
    else:
        (light / "params.yaml").write_bytes(content)
    lines = refused_again(light)
    assert len(lines) == 1 and lines[0].startswith(expected), lines


def refused_again(workspace):
    done = workspace.run("aebench", "plan", ok=False)
    return [line.removeprefix("aebench: error: ") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (LIGHT + "x = (", "plugins/light.py: SyntaxError: '(' was never closed (line 1"),
        ("import nosuch\n" + LIGHT, "plugins/light.py: ModuleNotFoundError: No module named"),
        (LIGHT + "raise SystemExit('bye')", "plugins/light.py: SystemExit: bye"),
        (LIGHT.replace("register_models", "register_model"), "plugins/light.py: unknown hook"),
        (LIGHT.replace("(register)", "(registr)"), "plugins/light.py: Plugin 'plugins/light.py'"),
        (LIGHT.replace("beta=1.0", "**options"), "plugins/light.py: model 'light': build must"),
    ],
)
def test_broken_plugin_is_an_error_if_used_and_a_warning_if_not(light, source, expected):
    (light / "plugins/light.py").write_text(source)
    lines = refused_again(light)
    assert len(lines) == 2
    assert "unknown model 'light'" in lines[0] and f"not loaded: {expected}" in lines[1]
    (light / "plugins/other.py").write_text(LIGHT.replace('"light"', '"other"'))
    light.params(runs={"one": {"model": "other"}})
    done = light.run("aebench", "plan")
    assert done.stderr.startswith(f"aebench: warning: not used: {expected}")


@pytest.mark.parametrize("default", ["{1: 2}", "[{None: 'x'}]", "{True: (1,)}"])
def test_default_that_json_would_change_is_refused_each_time(light, default):
    (light / "plugins/light.py").write_text(LIGHT.replace("beta=1.0", f"beta={default}"))
    for _ in range(2):  # the second time it is remembered, as JSON
        (line,) = refused_again(light)
        assert (
            line.startswith("params.yaml: runs.one.beta: got ") and "mappings (from text)" in line
        )


def test_duplicate_model_names_both_files(light):
    (light / "plugins/copy.py").write_text(LIGHT)
    lines = refused_again(light)
    both = "plugins/copy.py and plugins/light.py"
    names = "`model: copy:light` or `model: light:light`"
    assert lines == [f"params.yaml: runs.one: model 'light' is registered by {both}; write {names}"]


def test_models_of_one_name_are_told_apart_by_their_plugins(light):
    light.run("aebench", "plan")
    alone = (light / "plan/one/train.json").read_text()
    (light / "plugins/copy.py").write_text(LIGHT.replace("beta=1.0", "gamma=1.0"))
    listed = light.run("aebench", "list").stdout
    for words in (
        "copy:light   plugins/copy.py",
        "light:light  plugins/light.py",
        "; write `model",
    ):
        assert words in listed, listed
    full = {"one": {"model": "light:light"}, "two": {"model": "copy:light", "gamma": 2.0}}
    light.params(runs=full)
    assert light.run("aebench", "plan").stderr == ""
    assert (light / "plan/one/train.json").read_text() == alone
    two = json.loads((light / "plan/two/train.json").read_text())
    assert (two["model"], two["plugin"], two["build"]["gamma"]) == ("light", "plugins/copy.py", 2.0)
    light.run("aebench", "prepare")
    light.run("aebench", "train", "two", "0")
    assert json.loads((light / "results/two/0/train.json").read_text())["status"] == "ok"
    # A model may have a full name for its name: what messages offer is meant.
    (light / "plugins/zoo.py").write_text(LIGHT.replace('"light"', '"light:light"'))
    assert light.run("aebench", "plan").stderr == ""
    assert (light / "plan/one/train.json").read_text() == alone
    (light / "plugins/zoo.py").unlink()
    # Only the bare name is a fault, and a mistyped one gets the nearest.
    light.params(runs=full | {"three": {"model": "cpy:light"}})
    (line,) = refused_again(light)
    assert "runs.three.model: unknown model 'cpy:light' (did you mean 'copy:light'?)" in line
    assert line.endswith("; registered: copy:light, light:light")
    (light / "plugins/other.py").write_text(LIGHT.replace('"light"', '"other"'))
    light.params(runs={"one": {"model": "other"}, "two": {"model": "other:other"}})
    said = light.run("aebench", "plan").stderr
    assert said.startswith(
        "aebench: warning: not used: model 'light' is registered by plugins/copy"
    )
    plans = [(light / f"plan/{run}/train.json").read_text() for run in ("one", "two")]
    assert plans[0] == plans[1]


def test_data_sets_of_one_name_are_a_fault_where_used(light):
    shutil.copy(light / "plugins/digits.py", light / "plugins/figures.py")
    both = "plugins/digits.py and plugins/figures.py"
    assert refused_again(light) == [
        f"params.yaml: dataset: data set 'digits' is registered by both {both}; rename one"
    ]
    # A model may be called like a data set.
    (light / "plugins/figures.py").unlink()
    (light / "plugins/light.py").write_text(LIGHT.replace('"light"', '"digits"'))
    light.params(runs={"one": {"model": "digits"}})
    light.run("aebench", "plan")


def test_option_enters_the_plan_with_its_default(light):
    light.run("aebench", "plan")
    build = json.loads((light / "plan/one/train.json").read_text())["build"]
    assert build == {"beta": 1.0, "latent": 32}
    light.params(runs={"one": {"model": "light", "beta": 4.0}})
    light.run("aebench", "plan")
    build = json.loads((light / "plan/one/train.json").read_text())["build"]
    assert build == {"beta": 4.0, "latent": 32}


def test_trials_are_the_reports_alone_and_no_holdout_is_in_no_plan(light):
    def plans(**changes):
        light.params(**changes)
        light.run("aebench", "plan")
        return {p: p.read_bytes() for p in (light / "plan").rglob("*.json")}

    def changed(other):
        return {path.name for path in one if other[path] != one[path]}

    one = plans()
    assert plans(holdout=None) == one and b"holdout" not in b"".join(one.values())
    said = {"one": {"model": "light", "trials": "12 settings, on holdout: 0.1 ${x}"}}
    assert changed(plans(runs=said)) == {"report.json"}
    shown = json.loads((light / "plan/report.json").read_text())
    assert shown["trials"] == {"one": "12 settings, on holdout: 0.1 ${x}"}
    listed = light.run("aebench", "list").stdout
    assert "one    light" in listed and "12 settings" not in listed
    assert changed(plans(runs={"one": {"model": "light"}}, holdout=0.1)) == {
        "data.json",
        "report.json",
    }
    data = json.loads((light / "plan/data.json").read_text())
    assert (data["holdout"], data["num_train"], data["num_test"]) == (0.1, None, None)


def test_plugin_is_imported_again_only_after_a_change(light, tmp_path):
    log, packages = tmp_path / "log", tmp_path / "site-packages"
    packages.mkdir()
    light.env["PYTHONPATH"] = str(packages)
    source = LIGHT + f"with open({str(log)!r}, 'a') as log:\n    log.write('i')\n"

    def imports():
        log.write_text("")
        light.run("aebench", "plan")
        return len(log.read_text())

    (light / "plugins/light.py").write_text(source)
    assert imports() == 1
    plan = (light / "plan/one/train.json").read_bytes()
    (light / "plan/one/train.json").unlink()
    assert imports() == 0
    assert (light / "plan/one/train.json").read_bytes() == plan
    (light / "plugins/light.py").write_text("# a comment\n" + source)
    assert imports() == 0
    (light / "plugins/light.py").write_text(source.replace("beta=1.0", "beta=2.0"))
    assert imports() == 1
    assert b'"beta": 2.0' in (light / "plan/one/train.json").read_bytes()
    (packages / "new").mkdir()  # as an installation does
    assert imports() == 1
    (light / ".aebench/plugins.json").write_text("not JSON")
    assert imports() == 1


def test_plan_is_the_same_bytes_in_every_process(baseline):
    baseline.apart = True
    found = set()
    for seed in "12345":
        baseline.env["PYTHONHASHSEED"] = seed
        baseline.run("aebench", "plan")
        found.add((baseline / "plan/sources.json").read_bytes())
    assert len(found) == 1


def test_k_above_the_training_set(light, folder_data):
    folder_data(count=1)  # 2 classes x 3 training images
    light.params(dataset="pets")
    lines = refused_again(light)
    allowed = "allowed: 1 to 6, the number of training images"
    assert lines == [f"params.yaml: knn.k: got 10; {allowed}"]
    # The size of a registered data set is known once it is prepared.
    light.params(dataset="digits", knn={"k": 2000, "metric": "l2", "backend": "faiss"})
    light.run("aebench", "plan")
    done = light.run("aebench", "prepare", ok=False)
    assert "knn.k of run one: got 2000; allowed: 1 to 1438" in done.stderr
    assert not (light / "data").exists()
    light.params(knn={"k": 10, "metric": "l2", "backend": "faiss"})
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    light.params(knn={"k": 2000, "metric": "l2", "backend": "faiss"})
    assert "knn.k: got 2000; allowed: 1 to 1438" in refused_again(light)[0]


def test_folder_faults_are_told_together(light, folder_data):
    folder = folder_data()
    (folder / "train/cat/0.png").write_bytes(b"")
    (folder / "train/empty").mkdir()
    (folder / "test/my dog").rename(folder / "test/my dogs")
    light.params(dataset="pets")
    text = "\n".join(refused_again(light))
    assert "train/cat/0.png: an empty file; replace or remove it" in text
    assert "train/empty: a class with no image; allowed: files ending in .png" in text
    assert "class 'my dog' is in train but not in test (did you mean 'my dogs'?)" in text
    assert "class 'my dogs' is in test but not in train" in text


def test_missing_split(light, folder_data, tmp_path):
    (folder_data() / "test").rename(tmp_path / "elsewhere")
    light.params(dataset="pets")
    assert "pets/test: not there; allowed: <class>/*.png below it" in refused_again(light)[0]


def test_unknown_run_of_a_stage(light):
    done = light.run("aebench", "train", "nosuch", "0", ok=False)
    assert done.stderr == (
        "aebench: error: plan/report.json: not there; run `aebench plan` first\n"
    )
    light.run("aebench", "plan")
    done = light.run("aebench", "train", "on", "0", ok=False)
    words = "unknown run 'on' (did you mean 'one'?); runs: one"
    made = "(plan/report.json, made by `aebench plan`)"
    assert done.stderr == f"aebench: error: {words} {made}\n"


def test_list_shows_what_there_is_and_what_failed(light, folder_data):
    folder_data()
    (light / "plugins/bad.py").write_text("import nosuch")
    text = light.run("aebench", "list").stdout
    for words in (
        "light    plugins/light.py  latent, beta=1.0",
        "digits      plugins/digits.py",
        "pets ",
        "one    light",
        "plugins/bad.py: ModuleNotFoundError: No module named 'nosuch'",
    ):
        assert words in text, text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  one:\n    model: light\n", "", "'Value' object is not iterable"),
        ("seeds:\n  - 0", "seeds: 0", "'Value' object is not iterable"),
        ("  one:", "  a@b:", "Stage 'train@a@b-0' not found"),
        (ONE, "", "Could not find 'runs'"),
    ],
)
def test_readme_knows_what_dvc_says_first_and_plan_says_more(light, old, new, words):
    (light / "params.yaml").write_text(ONE.replace(old, new, 1))
    assert words in light.run("dvc", "repro", ok=False).stderr
    assert words in " ".join((ROOT / "README.md").read_text().split())
    assert refused_again(light)[0].startswith("params.yaml: ")


def test_option_that_is_not_json(light):
    lines = refused(light, ONE + "    beta: .nan\n")
    assert lines[0].startswith("params.yaml: runs.one.beta: got nan; allowed as an option")
    (light / "params.yaml").write_text(ONE)
    (light / "plugins/light.py").write_text(LIGHT.replace("beta=1.0", "beta=print"))
    assert "runs.one.beta: got <built-in function print>; allowed" in refused_again(light)[0]


def test_the_first_seed_moves_the_plans_of_encode_alone(light):
    def plans(*seeds):
        light.params(seeds=list(seeds))
        light.run("aebench", "plan")
        return {path.stem: path.read_bytes() for path in (light / "plan/one").iterdir()}

    one = plans(0)
    assert json.loads(one["encode"])["first_seed"] == 0
    assert plans(0, 1, 2) == one
    other = plans(1, 0)
    assert {stage for stage in one if other[stage] != one[stage]} == {"encode"}
