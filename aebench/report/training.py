"""What training costs, and how it went."""

from aebench.report.charts import Charts
from aebench.report.document import Block, Section
from aebench.report.findings import Findings
from aebench.report.losses import further_curves, losses
from aebench.report.tables import LAYERS, MACS, PARAMS, SHORT_RUN, SIZE, table


def training(found: Findings) -> Section:
    """Sizes and times of every model, and the losses."""
    ones = found.coded
    times = found.times
    columns = [SHORT_RUN, LAYERS, PARAMS, SIZE, MACS, times.epoch, times.short_training]
    blocks: list[Block] = [table(columns, ones)] if ones else []
    charts = Charts(found)
    blocks += [*losses(charts), *further_curves(charts)]
    return Section("Training", blocks)
