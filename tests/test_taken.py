"""What the stages took as a whole is recorded and told."""

import re

import numpy as np
from synthetic import made, results, section, words

from aebench.provenance import Clock
from aebench.records.origin import Provenance
from aebench.records.stress import StressRecord
from aebench.report.render import Report
from aebench.workspace import PER_RUN, Workspace


def test_memory_and_cpu_of_a_stage_are_its_own(tmp_path):
    before = np.ones(2**24)  # 134 MB, which the stage did not take
    clock = Clock(Workspace(tmp_path))
    during = np.ones(2**23)
    assert during.sum() < before.sum()
    del during
    origin = clock.provenance([])
    assert 6e7 < origin.peak_memory_bytes < 1e8  # the kernel counts in batches
    assert 0 < origin.stage_cpu_seconds < 60
    assert clock.provenance([], processes=2).peak_memory_bytes is None


def test_report_tells_what_each_stage_took(finished):
    row = finished.rows()["mlp"]
    for stage in ("train", "encode", "knn"):
        assert float(row[f"{stage}_stage_seconds"]) > 0
        assert float(row[f"{stage}_stage_cpu_seconds"]) > 0
        assert int(row[f"{stage}_peak_memory_bytes"]) > 10_000
        assert row[f"{stage}_gpu_peak_memory_bytes"] == ""
    text = (finished / "reports/report.md").read_text()
    section = text[text.index("What the stages took") :]
    assert re.search(r"All runs and seeds: .* s; training .* s \(.*\), encoding .*\), ", section)
    assert "training, MB" in section and "alone, with what is computed once" not in section


def told(found, **changes):
    """What is said of results each of whose stages took ten seconds, of a later seed more."""
    for result in found:
        result.columns |= {f"{s}_stage_seconds": 10.0 * (result.seed + 1) for s in PER_RUN}
    whole = results(found, **changes)
    whole.data.provenance = Provenance.model_construct(stage_seconds=4.0)
    return words(section(Report(whole).document, "What the stages took"))


def test_the_first_seed_is_told_alone_where_there_are_several():
    found = [made(seed=0), made(seed=1), made("again", 0), made("failed", 0, status="failed: no")]
    found[0].stress = StressRecord.model_construct(
        status="ok", blank={}, provenance=Provenance.model_construct(stage_seconds=3.0)
    )
    text = told(found, seeds=[0, 1])
    assert "All runs and seeds: 97 s; training 30 s (mlp, again, failed: 30 s), " in text
    assert "Seed 0 alone, with what is computed once: 37 s, of which training 10 s." in text
    assert "alone" not in told([made(seed=0)], seeds=[0])
    gathered = [made(seed=0, source="ann"), made(seed=1, source="ben")]
    assert "alone" not in told(gathered, seeds=[0, 1])
