"""What training costs, and how it went."""

from aebench.report import figures
from aebench.report.document import Block, Section
from aebench.report.findings import Findings
from aebench.report.tables import LAYERS, MACS, PARAMS, SHORT_RUN, SIZE, table


def training(found: Findings) -> Section:
    """Sizes and times of every model, and the losses."""
    ones = found.coded
    times = found.times
    columns = [SHORT_RUN, LAYERS, PARAMS, SIZE, MACS, times.epoch, times.training]
    blocks: list[Block] = [table(columns, ones)] if ones else []
    blocks += figures.loss_curves(found.configurations)
    blocks += figures.further_curves(found.configurations)
    return Section("Training", blocks)
