"""What the stages took as a whole is recorded and told."""

import re

import numpy as np

from aebench.provenance import Clock
from aebench.workspace import Workspace


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
    assert "training, MB" in section
