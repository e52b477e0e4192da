"""A time is marked when other processes had the cores, and not otherwise."""

import pytest

from aebench.timing import CORES, Stopwatch, Usage, facts


def usage(waited, others, seconds=10.0):
    return Usage(seconds, seconds * CORES, others * seconds * CORES, waited * seconds, 5)


@pytest.mark.parametrize(
    ("waited", "others", "contended"),
    [(0.0, 0.0, False), (4.0, 0.3, True), (4.0, 0.0, False), (0.0, 0.9, False)],
)
def test_contended_is_waiting_for_cores_that_others_use(waited, others, contended):
    # Own threads wait for one another; a neighbour on another core takes nothing away.
    assert usage(waited, others).contended == contended


def test_half_of_the_epochs_lose_the_median():
    quiet, busy = usage(0.0, 0.0), usage(4.0, 0.4)
    assert facts([quiet, quiet, busy]).contended is False
    assert facts([quiet, busy]).contended is True
    assert facts([]).contended is None


def test_unknown_is_not_quiet():
    unknown = Usage(1.0, 1.0, 1.0, None, None)
    assert unknown.contended is None and facts([unknown]).contended is None


def test_stopwatch_counts_the_seconds_of_the_cpu():
    stopwatch = Stopwatch()
    while stopwatch.read().cpu_seconds < 0.05:
        pass
    found = stopwatch.read()
    assert 0.05 <= found.cpu_seconds <= found.seconds * CORES + 0.02
    assert found.waited_seconds is None or found.waited_seconds >= 0
