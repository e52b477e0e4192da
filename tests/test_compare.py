"""What `aebench compare` says of two revisions, of several, and of several data sets."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import LIGHT, ROOT, SMALL, Workspace, make
from synthetic import made, pca, pixels, results, sweep, words

from aebench.errors import AebenchError
from aebench.records.plan import DataPlan
from aebench.report.comparison import Comparisons
from aebench.report.document import BulletList, Table
from aebench.report.markdown import markdown
from aebench.report.sides import Side


def run(name, **facts):
    """A run whose name, of one letter, decides its settings."""
    return made(name, **({"depth": ord(name) - 90} | facts))


def side(name, found, params=None, code=None, data=None, hidden=()):
    """A revision of made results. `data`: the name of its data set, which decides the images."""
    made_of = results(found, dataset=data or "pets", hidden=list(hidden))
    if data:
        made_of.data.data_hash = f"hash of {data}"
    return Side(name, made_of, params or {}, code or {})


def compared(old, new, *more, **sides):
    """Results against others, called HEAD, k5, k20."""
    names = ("HEAD", "k5", "k20")
    return Comparisons(
        [side(n, f, **sides) for n, f in zip(names, (old, new, *more), strict=False)]
    )


def bullets(found):
    """All items of all lists."""
    return [words(i) for b in found.document.blocks if isinstance(b, BulletList) for i in b.items]


def rows(found, title):
    """Run -> header -> text, of the table of a section."""
    section = next(one for one in found.document.sections if one.title == title)
    table = next(block for block in section.blocks if isinstance(block, Table))
    names = [header.name for header in table.headers]
    return {words(row[0]): dict(zip(names, map(words, row), strict=True)) for row in table.cells}


def verdicts(found):
    """Run -> column -> verdict."""
    return {(f.pair.name, f.measure.column): str(f.verdict) for f in found.figures}


def with_right(one, gained, lost):
    """The result with so many more right votes, and so many fewer, among its images."""
    votes = one.outcomes.copy()
    right = votes["prediction"] == votes["label"]
    turned = [*np.flatnonzero(~right)[:gained], *np.flatnonzero(right)[:lost]]
    votes["prediction"][turned] = np.where(
        right[turned], (votes["label"][turned] + 1) % 10, votes["label"][turned]
    )
    return replace(one, outcomes=votes)


def test_better_worse_same_and_not_told_apart():
    changes = {
        "mlp": {"accuracy": 0.6, "mse": 0.02, "knn": {"k": 5}},
        "mlp_latent10": {"accuracy": 0.45, "mse": 0.05},
    }
    found = compared(sweep(), sweep(**changes))
    assert found.document.title == "HEAD -> k5: 1 better, 1 worse of 12 figures of 6 runs"
    assert verdicts(found)["mlp", "accuracy"] == "better"
    assert verdicts(found)["mlp", "mse"] == "same"
    assert verdicts(found)["mlp-latent10", "mse"] == "worse"
    assert rows(found, "Accuracy, %")["mlp"] == {
        "run": "mlp",
        "seeds": "3",
        "HEAD": "50.00",
        "k5": "60.00",
        "difference, points": "+10.00 ± 2.54",
        "verdict": "better",
    }
    assert rows(found, "MSE")["mlp-latent10"]["difference, %"].startswith("+25.0 ± ")
    assert rows(found, "MSE")["mlp"]["difference, %"] == ""
    assert "Bit for bit the same: mlp-untrained, pca, pca-latent10, pixels" in bullets(found)
    assert found.worse == ["1 worse: MSE of mlp-latent10"]
    text = markdown(found.document)
    assert "| **better** " in text and "| **worse** " in text


def test_what_is_all_the_same_has_no_table():
    found = compared(sweep(), sweep())
    assert found.document.title == "HEAD -> k5: 0 better, 0 worse of 12 figures of 6 runs"
    assert found.document.sections == [] and found.worse == []
    k_alone = compared(sweep(), sweep(mlp={"knn": {"k": 5}, "accuracy": 0.6}))
    said = {section.title: words(section) for section in k_alone.document.sections}
    assert said["MSE"].startswith("The same bit for bit: mlp.")


def test_holms_correction_is_over_all_figures_that_are_tested():
    """Its p is 0.02: enough alone and beside what is the same, not beside two that are tested."""
    before = run("a", mse=None)
    gain = with_right(before, gained=12, lost=3)
    others = [run(name, mse=None) for name in "bc"]
    moved = [with_right(one, gained=5, lost=5) for one in others]
    assert verdicts(compared([before], [gain]))["a", "accuracy"] == "better"
    assert verdicts(compared([before, *others], [gain, *others]))["a", "accuracy"] == "better"
    several = compared([before, *others], [gain, *moved])
    assert set(verdicts(several).values()) == {"not told apart"}
    assert "not the same bit for bit, 3." in words(several.document)
    # Those of all columns are one family.
    columns = compared([before], [gain], [with_right(before, gained=5, lost=5)])
    assert verdicts(columns)["a", "accuracy"] == "not told apart"


def test_several_names_of_one_configuration_are_compared_once():
    old = [made("mlp"), made("again")]
    found = compared(old, [made("mlp", accuracy=0.6), made("again", accuracy=0.6)])
    assert found.document.title.endswith("of 2 figures of 1 run")
    assert list(rows(found, "Accuracy, %")) == ["mlp, again"]
    apart = compared(old, [made("mlp"), made("again", depth=5, accuracy=0.6)])
    assert list(rows(apart, "Accuracy, %")) == ["again"]
    assert "depth: 3 -> 5: again" in bullets(apart)


def test_what_is_new_gone_and_failed_is_said():
    old = [run("a"), run("b"), run("c", status="failed: before"), run("e", status="failed: x")]
    new = [
        run("a", status="failed: diverged"),
        run("c"),
        run("d"),
        run("e", status="failed: x"),
    ]
    found = compared(old, new)
    assert bullets(found) == [
        "New: d",
        "Gone: b",
        "Fails now: a: failed: diverged",
        "Failed before: c: failed: before",
        "Failed in both: e: failed: x",
    ]
    assert found.worse == [
        "failed now: a",
        "no figure was compared, as no run has a result in both",
    ]


def test_a_seed_that_fails_now_is_said():
    old, new = ([made(seed=s) for s in (0, 1, 2)] for _ in range(2))
    new[1].columns["status"] = "failed: diverged"
    found = compared(old, new)
    assert "Fails now: mlp (1 of 3 seeds): failed: diverged" in bullets(found)
    assert rows(found, "MSE")["mlp"]["seeds"] == "3 -> 2"
    assert found.worse == ["failed now: mlp"]


def test_a_new_run_that_fails_is_said_and_no_pass():
    found = compared([made()], [made(), run("d", status="failed: diverged")])
    assert "New, and fails: d: failed: diverged" in bullets(found)
    assert found.worse == ["failed now: d"]


def test_a_result_that_is_not_there_is_no_better_one():
    hidden = ["mlp, seed 0: no result of knn; run `dvc repro`"]
    new = side("k5", [pca()], hidden=hidden)
    new.results.runs.append("mlp")
    found = Comparisons([side("HEAD", [made(), pca()]), new])
    assert "Not in k5: mlp, seed 0: no result of knn; run dvc repro" in bullets(found)
    assert found.worse == ["without a result now: mlp"]


def test_other_protocols_are_not_compared():
    found = compared([made(), pca()], [made(accuracy=0.9, protocol=3), pca()])
    assert "Not compared: mlp: measured by protocol 2 before, by 3 now" in bullets(found)
    assert found.document.title == "HEAD -> k5: 0 better, 0 worse of 2 figures of 1 run"


def test_protocol_2_is_compared_with_1_whose_figures_it_keeps():
    found = compared([made(protocol=1), pca(protocol=1)], [made(), pca()])
    assert not [line for line in bullets(found) if line.startswith("Not compared")]
    assert found.document.title == "HEAD -> k5: 0 better, 0 worse of 4 figures of 2 runs"


def test_an_encoder_alone_pixels_and_labels():
    old = [run("a", mse=None), run("b"), run("c"), run("d", labels_seen=True), pixels()]
    new = [
        run("a", mse=None, accuracy=0.6),
        run("b", mse=None),
        run("c", labels_seen=True, accuracy=0.6, mse=0.03),
        run("d", labels_seen=True, accuracy=0.6),
        pixels(knn={"k": 5}, accuracy=0.7),
    ]
    found = compared(old, new)
    assert "No decoder now, so no MSE is compared: b" in bullets(found)
    shown = rows(found, "Accuracy, %")
    assert [*shown] == ["a", "b", "c (now saw labels)", "d (saw labels)", "pixels"]
    assert shown["pixels"]["seeds"] == "any"
    assert rows(found, "MSE")["pixels"]["k5"] == "exact"
    assert ("a", "mse") not in verdicts(found)


def test_each_side_has_all_of_its_seeds_and_the_luck_of_one_is_said():
    seeds = [made(seed=seed) for seed in (0, 1, 2)]
    found = compared([made()], [made(seed=s, accuracy=0.6) for s in (0, 1, 2)])
    assert rows(found, "Accuracy, %")["mlp"]["seeds"] == "1 -> 3"
    assert "Of one seed (mlp)" in words(found.document)
    assert "**better, of one seed** |" in markdown(found.document)
    assert compared(seeds, seeds[::-1]).document.sections == []  # in another order
    several = compared(seeds, [made(seed=s, accuracy=0.6) for s in (3, 4)])
    assert rows(several, "Accuracy, %")["mlp"]["seeds"] == "3 -> 2"
    assert "of one seed" not in words(several.document).lower()
    # PCA does not depend on it.
    assert compared([pca()], [pca(seed=s) for s in (0, 1)]).document.sections == []


def test_a_seed_more_counts_in_the_test():
    """The same difference, once with its seeds far apart."""
    new = [made(seed=s, mse=m) for s, m in ((0, 0.017), (1, 0.021), (2, 0.0175))]
    old = [made(seed=s, mse=m) for s, m in ((0, 0.0195), (1, 0.0205), (2, 0.02))]
    assert verdicts(compared(old, new))["mlp", "mse"] == "not told apart"
    close = [made(seed=s, mse=0.0185) for s in (0, 1, 2)]
    assert verdicts(compared(old, close))["mlp", "mse"] == "better"


def test_changed_parameters_are_told_with_their_runs():
    old = {"seeds": [0], "knn": {"k": 10}, "latent": 8, "runs": {"a": {"model": "mlp"}}}
    new = {"seeds": [0, 1], "knn": {"k": 5}, "latent": 16, "runs": {"a": {"model": "mlp", "x": 1}}}
    found = Comparisons(
        [
            side("HEAD", [run("a"), run("b", knn={"k": 20})], old),
            side("k5", [run("a", knn={"k": 5}, options={"x": 1}), run("b", knn={"k": 20})], new),
        ]
    )
    assert bullets(found) == [
        "knn.k: 10 -> 5: a",
        "x: not set -> 1: a",
        "seeds: [0] -> [0, 1]",
        "latent: 8 -> 16 (without effect on a run of both)",
        "Bit for bit the same: all 2 runs",
    ]
    everywhere = compared([run("a"), run("b")], [run(n, knn={"k": 5}) for n in "ab"])
    assert "knn.k: 10 -> 5: all 2 runs" in bullets(everywhere)


def test_changed_code_versions_and_machines_are_told():
    def result(plugin, **columns):
        return replace(made(**columns), code={"train plugin": plugin, "knn aebench": "same"})

    old, new = result("p1"), result("p2", torch_version="1.1", train_machine="Processor 2")
    code = {"p1": {"plugins/mlp.py": "x"}, "p2": {"plugins/mlp.py": "y"}}
    found = Comparisons([side("HEAD", [old]), side("k5", [new], code=code)])
    assert bullets(found)[:3] == [
        "Code: plugins/mlp.py changed: mlp",
        "Computed with: torch 1.0 -> 1.1",
        "Machine of train: Processor 1, 2 cores, 2 threads -> Processor 2",
    ]
    unknown = Comparisons([side("HEAD", [old]), side("k5", [new])])
    assert "Code: its plug-in changed: mlp" in bullets(unknown)


def test_times_are_compared_where_machine_and_contention_allow():
    def pair(**columns):
        return compared([made(epoch_seconds=1.0)], [made(**columns)])

    shown = pair(epoch_seconds=1.5)
    assert rows(shown, "Times")["mlp"] == {
        "run": "mlp",
        "time": "epoch, s",
        "HEAD": "1.00",
        "k5": "1.50",
        "new / old": "1.50",
    }
    busy = pair(epoch_seconds=1.5, epoch_contended=True)
    assert "Not compared: epoch: others had the cores (mlp)." in words(busy.document)
    parts = pair(epoch_seconds=1.5, resumed=1)
    assert "Not compared: epoch: resumed after a kill (mlp)." in words(parts.document)
    elsewhere = pair(epoch_seconds=1.5, train_machine="Processor 2")
    assert "epoch: another machine, or another number of threads" in words(elsewhere.document)
    assert pair(epoch_seconds=1.0).document.sections == []  # of the cache: taken once
    assert shown.document.title.startswith("HEAD -> k5: 0 better, 0 worse of 2 figures")


def test_further_revisions_have_a_column_each():
    more = [made(accuracy=0.6, mse=0.01), pca()], [made(accuracy=0.4), pca(mse=0.016)]
    found = compared([made(), pca()], *more)
    assert found.document.title == "HEAD -> k5, k20: 2 better, 2 worse of 8 figures of 2 runs"
    accuracy = rows(found, "Accuracy, %")
    assert [*accuracy] == ["mlp"]
    assert accuracy["mlp"]["HEAD"] == "50.00"
    assert accuracy["mlp"]["k5, points"].endswith(" better, of one seed")
    assert accuracy["mlp"]["k20, points"].endswith(" worse, of one seed")
    assert rows(found, "MSE")["pca"]["k5, %"] == "same"
    assert "+6.7 ± " in rows(found, "MSE")["pca"]["k20, %"]


def data_sets(count, **changes):
    """Revisions of so many data sets: mlp gains on pca from each to the next."""
    return [
        side(
            f"exp-{i}",
            [made(accuracy=0.5 + i / 50, mse=0.02), pca(accuracy=0.55), pixels(accuracy=0.5)],
            data="abcdefg"[i],
            **changes,
        )
        for i in range(count)
    ]


def test_data_sets_have_a_column_each_and_are_not_tested():
    found = Comparisons(data_sets(2))
    assert found.document.title == "3 runs on 2 data sets: a, b"
    assert rows(found, "Accuracy, %")["mlp"].keys() == {"run", "a", "b"}
    assert rows(found, "Accuracy, %")["mlp"]["b"].startswith("51.94 ± ")
    assert [*rows(found, "Skill over PCA, %")] == ["mlp"]
    assert rows(found, "Skill over PCA, %")["mlp"]["a"].startswith("-33.3 ± ")
    assert not [item for item in bullets(found) if item.startswith("Bit for bit")]
    assert found.worse == ["no figure was compared, as the results are of different data"]


def test_mean_ranks_from_five_data_sets_on():
    assert "mean rank" not in rows(Comparisons(data_sets(4)), "Accuracy, %")["mlp"]
    found = Comparisons(data_sets(5))
    shown = rows(found, "Accuracy, %")
    # mlp ties with pixels on a, is second on b and c, and above pca, which has 55 %, on d and e.
    assert {run: row["mean rank"].split()[0] for run, row in shown.items()} == {
        "mlp": "1.70",
        "pca": "1.40",
        "pixels": "2.90",
    }
    ranks = np.array([2.5, 2, 2, 1, 1])
    half = 2.776 * ranks.std(ddof=1) / 5**0.5
    assert shown["mlp"]["mean rank"] == f"1.70 +{half:.2f} -0.70"  # no rank is above the first
    assert shown["pixels"]["mean rank"] == "2.90 +0.10 -0.28"  # no rank is below the third
    assert "JMLR 7, 2006" in words(found.document)


def test_a_run_without_all_data_sets_or_with_labels_has_no_rank():
    sides = data_sets(5)
    for number, one in enumerate(sides):
        one.results.results.append(made("labelled", depth=9, labels_seen=True, accuracy=0.9))
        one.results.runs.append("labelled")
        if number:
            one.results.results.append(made("late", depth=7, accuracy=0.9))
            one.results.runs.append("late")
    shown = rows(Comparisons(sides), "Accuracy, %")
    assert shown["labelled (saw labels)"]["mean rank"] == shown["late"]["mean rank"] == ""
    assert shown["late"]["a"] == ""
    assert shown["mlp"]["mean rank"].startswith("1.70 ")


def test_one_name_of_two_data_sets_and_a_mixture():
    one, other, third = data_sets(3)
    other.results.data.dataset = "a"
    assert Comparisons([one, other]).document.title.endswith(": a (exp-0), a (exp-1)")
    third.results.data.data_hash = one.results.data.data_hash
    with pytest.raises(AebenchError, match="exp-0 and exp-2 are both of c, and others are not"):
        Comparisons([one, other, third])


def of_holdout(side, share):
    side.results.data.plan = DataPlan.model_construct(holdout=share)
    return side


def test_holdouts_are_compared_with_their_like_alone():
    one, other = (of_holdout(side(name, sweep()), 0.1) for name in ("HEAD", "k5"))
    found = Comparisons([one, other]).document
    assert found.title == "HOLDOUT 0.1: HEAD -> k5: 0 better, 0 worse of 12 figures of 6 runs"
    assert "HEAD, k5: pets, 1,438 training and 360 held-out images, hash" in words(found.facts)
    sets = [of_holdout(one, 0.1) for one in data_sets(2)]
    assert Comparisons(sets).document.title == "HOLDOUT 0.1: 3 runs on 2 data sets: a, b"
    for share, kind in ((None, "the test set"), (0.2, "HOLDOUT 0.2")):
        of_holdout(other, share)
        with pytest.raises(AebenchError, match=f"^not comparable: .* 0.1, k5 is of {kind}; give"):
            Comparisons([one, other])
    of_holdout(sets[1], None)  # of other images, too
    with pytest.raises(AebenchError, match="^not comparable: exp-0 is of HOLDOUT 0.1, exp-1 is of"):
        Comparisons(sets)


@pytest.mark.parametrize(
    "name", ["<script>", "a|b", "$x^$", "`x`", '"q"', "\u202ex", "猫", "a" * 300]
)
def test_names_are_inert(name):
    new = [
        made("mlp", accuracy=0.6, knn={"metric": name}),
        made(name),
        pca(status=f"failed: {name}"),
    ]
    found = Comparisons([side(name, [made(), pca()], {name: name}), side(f"{name}2", new)])
    text = markdown(found.document)
    assert not re.search(r"(?<![\\`])<script|(?<!\\)\$|\u202e", re.sub("`+[^`]*`+", "", text))
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 7, line


@pytest.fixture(scope="module")
def compared_workspace(tmp_path_factory):
    """A baseline of two fast runs, in git, and the experiment k700. Not to be changed: copy it."""
    params = SMALL[: SMALL.index("runs:")]
    params += "runs:\n  one:\n    model: light\n  pixels:\n    model: pixels\n"
    workspace = make(tmp_path_factory.mktemp("compare") / "workspace", params, plugins=False)
    (workspace / "plugins/light.py").write_text(LIGHT)
    for name in ("digits", "pixels"):
        shutil.copy(ROOT / f"plugins/{name}.py", workspace / "plugins")
    workspace.run("dvc", "repro", "knn")  # all but the report, which nothing here reads
    workspace.commit()
    workspace.run("dvc", "exp", "run", "-S", "knn.k=700", "-n", "k700", "knn")
    return workspace


@pytest.fixture
def workspace(compared_workspace, tmp_path):
    """A copy."""
    shutil.copytree(compared_workspace.folder, tmp_path / "workspace", symlinks=True)
    return Workspace(tmp_path / "workspace")


def fault(workspace, *arguments):
    """The one line of an error, before which nothing was printed."""
    done = workspace.run("aebench", "compare", *arguments, ok=False)
    assert done.stdout == "" and done.stderr.count("\n") == 1
    return done.stderr.removeprefix("aebench: error: ").strip()


def state(workspace):
    """All files of the workspace with their times, but what DVC keeps for itself."""
    files = (path for path in workspace.folder.rglob("*") if path.is_file())
    return {p: p.stat().st_mtime_ns for p in files if ".dvc/tmp" not in str(p)}


def test_a_commit_an_experiment_and_the_workspace(workspace):
    before = state(workspace)
    done = workspace.run("aebench", "compare")  # the experiment lies in the workspace
    assert state(workspace) == before
    assert done.stdout.startswith("# HEAD -> workspace: 0 better, 2 worse of 6 figures of 2 runs\n")
    assert done.stderr == ""
    assert "- `knn.k`: `10` -> `700`: all 2 runs\n" in done.stdout
    assert "The same bit for bit: one, pixels." in done.stdout
    named = workspace.run("aebench", "compare", "HEAD", "k700").stdout
    assert named.replace("k700", "workspace").count("**worse") == 2
    commit = workspace.run("git", "rev-parse", "--short=7", "HEAD").stdout.strip()
    assert f"HEAD ({commit}), k700 (" in named


def test_fail_on_worse_prints_all_and_says_why(workspace):
    arguments = ("aebench", "compare", "HEAD", "k700")
    passing = workspace.run(*arguments)
    done = workspace.run(*arguments, "--fail-on", "worse", ok=False)
    assert (done.returncode, done.stdout) == (1, passing.stdout)
    assert done.stderr == (
        "aebench: error: --fail-on worse: 2 worse: accuracy of one, accuracy of pixels\n"
    )
    workspace.run("aebench", "compare", "k700", "HEAD", "--fail-on", "worse")


def test_a_holdout_and_the_test_set_are_not_comparable(workspace):
    workspace.params(holdout=0.1)
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    assert fault(workspace) == (
        "not comparable: HEAD is of the test set, workspace is of HOLDOUT 0.1; give revisions with "
        "one `holdout` in their params.yaml"
    )
    # Nor is anything shown of the test set's results.
    done = workspace.run("aebench", "report")
    assert "one, seed 0: " in done.stderr and "of other images" in done.stderr
    assert workspace.rows() == {}


def test_a_page_of_it_is_written_where_there_is_a_folder(workspace):
    arguments = ("aebench", "compare", "HEAD", "k700")
    done = workspace.run(*arguments, "--html", "k700.html")
    assert done.stdout == workspace.run(*arguments).stdout and done.stderr == "wrote k700.html\n"
    page = (workspace / "k700.html").read_text()
    (workspace / "k700.html").unlink()
    assert page.startswith("<!doctype html>") and "HEAD -&gt; k700" in page
    done = workspace.run(*arguments, "--html", "no/k700.html", ok=False)
    assert done.stderr.endswith("there is no folder no; make it first\n")
    assert done.stdout == "" and not (workspace / "no").exists()


def test_what_dvc_does_not_have_is_said_with_the_fix(workspace):
    assert fault(workspace, "k70").startswith(
        "k70: no such commit, branch, tag or experiment (did you mean 'k700'?); experiments: k700"
    )
    assert fault(workspace, "HEAD:plan").startswith("HEAD:plan: no such commit")
    assert fault(workspace, "HEAD~1") == (
        "HEAD~1: plan/report.json is not in that commit, so it has no results; where they are: "
        'dvc repro && git add -A && git commit -m "My baseline"'
    )
    workspace.run("git", "rm", "-q", "--cached", "dvc.lock")
    workspace.run("git", "commit", "-qm", "no lock")
    assert fault(workspace).startswith("HEAD: dvc.lock is not in that commit, and without it")
    shutil.rmtree(workspace / ".dvc/cache")
    found = fault(workspace, "HEAD~1")
    assert found.startswith("HEAD~1: results/data.json is not in DVC's cache; have it pushed")
    assert found.endswith(" && dvc repro")
    shutil.rmtree(workspace / "plan")
    assert fault(workspace, "k700").startswith("k700: results/data.json is not in DVC's cache")
    assert fault(workspace, "workspace").endswith("run `dvc repro` first")


def test_results_come_from_the_remote(workspace, tmp_path):
    workspace.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    workspace.run("git", "commit", "-qm", "a remote", ".dvc/config")
    workspace.run("dvc", "push", "-q", "-A")
    shutil.rmtree(workspace / ".dvc/cache")
    # That commit knows of no remote.
    assert workspace.run("aebench", "compare", "HEAD~1").stdout.count("worse") == 3
    assert not (workspace / ".dvc/cache").exists()
    shutil.rmtree(tmp_path / "store")
    assert "is not in DVC's cache and not to be had from 'store'" in fault(workspace)


def test_one_name_of_several_experiments(workspace):
    commit = workspace.run("git", "rev-parse", "HEAD~1").stdout.strip()
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/k700"
    workspace.run("git", "update-ref", reference, commit)
    workspace.run("git", "commit", "-qm", "later", "--allow-empty")
    found = fault(workspace, "k700")
    assert found.startswith("k700: 2 experiments have this name; give a hash: ")
    own = workspace.run(
        "git", "for-each-ref", "refs/exps", "--format=%(objectname:short) %(refname)"
    )
    hashes = [line.split()[0] for line in own.stdout.splitlines() if line.endswith("k700")]
    assert all(one in found for one in hashes)


def test_no_repository_no_commit_no_workspace(workspace):
    shutil.rmtree(workspace / ".git")
    assert "is in no git repository" in fault(workspace)
    workspace.run("git", "init", "-q")
    assert fault(workspace).startswith("HEAD: no commit yet; git add -A && git commit")
    (workspace / "params.yaml").unlink()
    assert fault(workspace) == "params.yaml: not there; run aebench in a workspace that has one"


def test_a_workspace_below_a_repository_and_a_running_repro(workspace, tmp_path):
    from dvc.repo import Repo

    above = tmp_path / "above"
    above.mkdir()
    shutil.rmtree(workspace / ".git")
    shutil.move(workspace.folder, above / "my bench")
    below = Workspace(above / "my bench")
    below.run("git", "init", "-q", str(above))
    below.commit()
    with Repo(str(below.folder)).lock:
        done = below.run("aebench", "compare")
    assert done.stdout.startswith("# HEAD -> workspace: 0 better, 0 worse of 6 figures of 2 runs")


def test_results_of_an_older_version(workspace):
    for name in ("plan", "results"):
        shutil.rmtree(workspace / name)
        shutil.copytree(ROOT / "tests/golden" / name, workspace / name)
    workspace.run("git", "add", "-f", "plan", "results")
    workspace.run("git", "commit", "-qm", "of 0.1.0")
    found = workspace.run("aebench", "compare", "HEAD").stdout
    assert found.startswith("# HEAD -> workspace: 0 better, 0 worse of 16 figures of 8 runs")
    assert "mlp, mlp-again" in found
    found = workspace.run("aebench", "compare", "k700", "HEAD").stdout
    assert "\n- Gone: one\n" in found and "| pixels |" in found
