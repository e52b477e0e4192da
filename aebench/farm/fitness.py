"""Say in which runs' plans the code is another than here: python -m aebench.farm.fitness."""

from aebench.errors import AebenchError
from aebench.job import STAGE_OF, Job
from aebench.outs import Outs
from aebench.records.plan import ReportPlan
from aebench.workspace import PER_RUN, Workspace

KINDS = {stage: kind for kind, stage in STAGE_OF.items() if stage in PER_RUN}


def other_code(workspace: Workspace) -> list[str]:
    """A line for each that differs, as a stage would say it: see `Job.check_code`."""
    found: list[str] = []
    plan = ReportPlan.read(workspace.plan / "report.json", "aebench plan")
    for run in plan.runs:
        for stage, kind in KINDS.items():
            path = workspace.plan_path(run, stage)
            try:
                content, plan_hash = kind.read_with_hash(path, "aebench plan")
                Job(workspace, path, content, plan_hash, Outs(alone=False)).check_code()
            except AebenchError as error:
                words = str(error).partition("; nothing was written")[0]
                if words not in found:
                    found.append(words)
    return found


if __name__ == "__main__":
    for line in other_code(Workspace()):
        print(line)
