"""Compare the results of commits and experiments: what is better, what is worse."""

import argparse
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aebench.commands.init import call, program, reason
from aebench.errors import AebenchError, first_line, nearest
from aebench.outs import Outs
from aebench.params import NAME, read_yaml
from aebench.records.plan import ReportPlan, Sources
from aebench.schema import RUN_NAME
from aebench.workspace import PER_RUN, Workspace

if TYPE_CHECKING:
    from aebench.report.sides import Side

HERE = "workspace"  # as DVC calls it
NAMED = 12  # experiments, in an error
SHORT = 7  # digits of a hash
COMMIT = 'git add -A && git commit -m "My baseline"'
# DVC's reference of one: the commit that it began from, its name.
EXPERIMENT = re.compile(r"refs/exps/(..)/(.{5}).{33}/(?P<name>.+)")
ARRAYS = "outcomes.npy", "squared_errors.npy", "metrics.npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The revisions, and what to do with what is found."""
    words = "a commit, branch, tag or DVC experiment; "
    parser.add_argument("old", metavar="OLD", nargs="?", default="HEAD", help=f"{words}HEAD")
    parser.add_argument(
        "new", metavar="NEW", nargs="?", default=HERE, help=f"the same; {HERE}: the files here"
    )
    parser.add_argument("more", metavar="MORE", nargs="*", help="further ones, held against OLD")
    parser.add_argument(
        "--fail-on",
        choices=["worse"],
        help="exit status 1 if a figure is worse, a run fails now, or nothing could be compared",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page, too")


def compare(
    workspace: Workspace,
    old: str,
    new: str,
    more: list[str],
    fail_on: str | None,
    html: Path | None,
) -> None:
    """Print what differs, in Markdown; with `html`, write the page to this file, too.

    AebenchError where a revision or its results cannot be had; with `fail_on`, after everything is
    printed, where something is worse.
    """
    from aebench.report.comparison import Comparisons
    from aebench.report.markdown import markdown

    if not workspace.params.is_file():
        raise AebenchError(f"{NAME}: not there; run aebench in a workspace that has one")
    found = Comparisons([side_of(workspace, name) for name in (old, new, *more)])
    if html:
        from aebench.report.page import page  # with matplotlib, which Markdown does not need

        if not html.absolute().parent.is_dir():
            raise AebenchError(f"--html {html}: there is no folder {html.parent}; make it first")
        with Outs() as outs:
            outs.write(html, page(found.document))
        print(f"wrote {html}", file=sys.stderr)
    print(markdown(found.document), end="")
    if fail_on and (reasons := found.worse):
        raise AebenchError(f"--fail-on {fail_on}: {'; '.join(reasons)}")


def side_of(workspace: Workspace, name: str) -> "Side":
    """The results of a revision, read as the report reads them. AebenchError names it."""
    if name == HERE:
        if not os.path.lexists(workspace.plan / "report.json"):
            what = f"no results in {Path.cwd()}: plan/report.json is not there"
            raise AebenchError(f"{HERE}: {what}; run `dvc repro` first")
        return read(workspace, name)
    place, commit = in_git(workspace, name)
    with tempfile.TemporaryDirectory(prefix="aebench-") as folder:
        there = Workspace(Path(folder).resolve())
        with contextlib.redirect_stdout(sys.stderr):  # whatever DVC may say is no comparison
            commit = Revision(workspace, name, commit, place).materialise(there)
        return read(there, name, commit)


def read(workspace: Workspace, name: str, commit: str = "") -> "Side":
    """What lies in the workspace. AebenchError names the revision instead of the folder."""
    from aebench.report.gather import gather
    from aebench.report.results import read_results
    from aebench.report.sides import Side

    with named_in_errors(workspace, name):
        plan = ReportPlan.read(workspace.plan / "report.json", "dvc repro")
        # Plans of format 1 do not say which results are theirs.
        if plan.data:
            results = read_results(workspace, plan, pictures=False)
        else:
            results = gather([workspace.root])
        params = read_yaml(workspace.params)
    code = {}
    with contextlib.suppress(AebenchError):
        code = Sources.read(workspace.plan / "sources.json", "aebench plan").code
    return Side(name, results, params, code, commit[:SHORT])


@contextlib.contextmanager
def named_in_errors(workspace: Workspace, name: str) -> Iterator[None]:
    """Let errors name the revision, and no temporary folder."""
    try:
        yield
    except AebenchError as error:
        root = workspace.root.resolve()
        text = str(error).replace(f"{root}/", "").replace(f"{root}: ", "")
        raise AebenchError("\n".join(f"{name}: {line}" for line in text.splitlines())) from None


def in_git(workspace: Workspace, name: str) -> tuple[str, str | None]:
    """The workspace's folder in its repository, `bench/` or empty; and the commit of that name.

    None for what git does not know: perhaps an experiment.
    """
    git = program("git")
    prefix = call([git, "rev-parse", "--show-prefix"], workspace.root)
    if "not a git repository" in prefix.stderr:
        raise AebenchError(
            f"{name}: {Path.cwd()} is in no git repository, so there is nothing to compare with; "
            f"git init && {COMMIT}, then change something and run `dvc repro`"
        )
    if prefix.returncode:
        raise AebenchError(f"{name}: git: {reason(prefix)}")
    command = [git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    commit = call(command, workspace.root).stdout.strip()
    return prefix.stdout.removesuffix("\n"), commit or None


class Revision:
    """A commit or experiment, whose files DVC gives from git, its cache and its remote."""

    def __init__(self, workspace: Workspace, name: str, commit: str | None, place: str) -> None:
        """AebenchError where there is none of that name."""
        from dvc.api import DVCFileSystem
        from dvc.repo import Repo
        from dvc.scm import RevError

        self.name, self.place = name, place
        root = str(workspace.root.absolute())
        with self.told():
            with Repo(root, uninitialized=True) as repo:
                here = repo.config
            self.remote = here["core"].get("remote")
            # What was committed before the remote was set up may lie there now, too.
            config = {"core": {"remote": self.remote}, "remote": here["remote"]}
            config = config if self.remote else {}
            factory = partial(Repo, config=config)
            try:
                self.files = DVCFileSystem(
                    root, commit or name, subrepos=True, repo_factory=factory, config=config
                )
                self.commit = self.files.repo.get_rev()
            except (RevError, AttributeError):  # `HEAD:plan` is no commit
                raise AebenchError(unknown(workspace, name)) from None

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn whatever DVC and the libraries of its remotes raise into an AebenchError."""
        try:
            yield
        except (AebenchError, FileNotFoundError, MemoryError):
            raise
        except Exception as error:
            what = first_line(error)
            fix = "; install that" if isinstance(error, ImportError) else ""
            if isinstance(error, OSError):
                fix = "; run `dvc repro` where they are, or `dvc pull`"
            raise AebenchError(f"{self.name}: DVC: {what}{fix}") from None

    def materialise(self, there: Workspace) -> str:
        """Write what a comparison reads; its commit. AebenchError where DVC does not have it."""
        found = self.fetch(there, "plan/report.json")
        if not found:
            raise AebenchError(
                f"{self.name}: plan/report.json is not in that commit, so it has no results; where "
                f"they are: dvc repro && {COMMIT}"
            )
        with named_in_errors(there, self.name):
            plan = ReportPlan.read(there.plan / "report.json", "dvc repro")
        if wrong := [run for run in plan.runs if not re.fullmatch(RUN_NAME, run)]:
            raise AebenchError(f"{self.name}: plan/report.json: {wrong[0]!r} is no run's name")
        self.fetch(there, NAME)
        self.fetch(there, "plan/sources.json")
        if not self.fetch(there, "results/data.json") and not self.info("dvc.lock"):
            raise AebenchError(
                f"{self.name}: dvc.lock is not in that commit, and without it DVC does not know "
                f"the results; where they are: dvc repro && {COMMIT}"
            )
        for run in plan.runs:
            for stage in PER_RUN if not plan.data else ():  # results of format 1 need theirs
                self.fetch(there, f"plan/{run}/{stage}.json")
            for seed in plan.seeds_of(run):
                for name in (*(f"{stage}.json" for stage in PER_RUN), *ARRAYS):
                    self.fetch(there, f"results/{run}/{seed}/{name}")
        return self.commit

    def info(self, path: str) -> dict[str, Any] | None:
        """What DVC knows of the file; None where it is not in the revision."""
        with self.told():
            try:
                return self.files.info(self.place + path)
            except FileNotFoundError:
                return None

    def fetch(self, there: Workspace, path: str) -> bool:
        """Write the file, if the revision has it. AebenchError where DVC alone knew its content."""
        info = self.info(path)
        if info is None:
            return False
        target = there.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.told():
            try:
                self.files.get_file(self.place + path, str(target))
            except FileNotFoundError:
                if not any(key.startswith("md5") for key in info):
                    return False  # of a stage that never ended
                where = f" and not to be had from {self.remote!r}" if self.remote else ""
                short = self.commit[:SHORT]
                raise AebenchError(
                    f"{self.name}: {path} is not in DVC's cache{where}; have it pushed from where "
                    "it was computed (dvc push -A, of an experiment dvc exp push), or compute it "
                    f"again: git switch --detach {short} && dvc repro"
                ) from None
        return True


def unknown(workspace: Workspace, name: str) -> str:
    """That there is no such revision, or several, and what there is."""
    wanted = "--format=%(objectname:short) %(refname)"
    done = call([program("git"), "for-each-ref", wanted], workspace.root)
    refs = [line.split(" ", 1) for line in done.stdout.splitlines()]
    found = [(commit, match) for commit, ref in refs if (match := EXPERIMENT.fullmatch(ref))]
    same = [f"{commit} (of {m[1]}{m[2]})" for commit, m in found if m["name"] == name]
    if same:
        return f"{name}: {len(same)} experiments have this name; give a hash: {', '.join(same)}"
    if name == "HEAD":
        return f"{name}: no commit yet; {COMMIT}"
    experiments = sorted({match["name"] for _, match in found})
    others = [re.sub("^refs/(heads|tags|remotes)/", "", ref) for _, ref in refs]
    there = f"experiments: {', '.join(experiments[:NAMED])}" if experiments else "no experiments"
    more = f" and {len(experiments) - NAMED} more" if experiments[NAMED:] else ""
    hint = nearest(name, [*experiments, *others, "HEAD", HERE])
    return (
        f"{name}: no such commit, branch, tag or experiment{hint}; {there}{more}; all of them: "
        "dvc exp list -A, git branch -a, git log"
    )
