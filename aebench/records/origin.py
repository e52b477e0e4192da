"""Where a result comes from, and what its timed work took: parts of several records."""

from typing import Any

from aebench.records.record import Part

PROTOCOL = 2  # of the measurements: a change of what a headline figure means makes it 3
# What must agree for equal bits.
MACHINE = (
    *("cpu", "gpu", "cores", "threads", "processes"),
    *("device", "precision", "memory_format"),
)
# Between format 1 and 2.
RENAMED = {"layout": "memory_format"}


class Provenance(Part):
    """Code, versions and machine of one result. None where the stage does not know it."""

    seed: int | None = None
    threads: int | None = None  # of each process
    processes: int | None = None  # that computed together; None: one
    gpu: str | None = None
    device: str | None = None  # cpu or cuda
    precision: str | None = None  # of the products: float32 or bfloat16
    memory_format: str | None = None  # of images: contiguous or channels_last
    blas: list[str] | None = None  # each OpenBLAS that was loaded: version and kernels
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    cpu: str
    cores: int | None
    openblas_coretype: str | None = None  # $OPENBLAS_CORETYPE
    wait_policy: str | None = None  # of OpenMP's threads: spin, passive, or settings of the user
    date: str  # UTC, ISO 8601
    protocol: int = 1
    stage_seconds: float | None = None  # of the whole stage, from its first line on
    stage_cpu_seconds: float | None = None  # of all its threads and processes
    # The most memory beyond what its process had after its imports; None where it computed in
    # several processes, and where the system does not tell.
    peak_memory_bytes: int | None = None
    gpu_peak_memory_bytes: int | None = None  # that torch had for tensors; None without a GPU

    @property
    def machine(self) -> str:
        """What must agree for times to be compared."""
        parts = [self.cpu, f"{self.cores} cores", f"{self.threads} threads"]
        parts += [f"{self.processes} processes"] if self.processes else []
        parts += [self.gpu] if self.gpu else []
        parts += [f"OPENBLAS_CORETYPE {kind}"] if (kind := self.openblas_coretype) else []
        if self.wait_policy not in (None, "spin"):  # spinning is what all did before it was chosen
            quietly = self.wait_policy.startswith("passive")
            how = f"threads waited quietly ({self.wait_policy})" if quietly else self.wait_policy
            parts.append(how)
        return ", ".join(parts)


class Timing(Part):
    """Of timed pieces of work: means, and the load average at the end. See `timing.facts`."""

    cpu_seconds: float | None = None
    waited_share: float | None = None  # of waiting + computing: waiting for a core
    others_share: float | None = None  # of all cores: what other processes took
    involuntary_switches: int | None = None
    load_average: float | None = None
    contended: bool | None = None  # whether others had the cores that it waited for


def defined_by(protocol: int) -> int:
    """The first protocol whose headline figures mean the same: 2 adds others to 1's."""
    return 1 if protocol == 2 else protocol


def renamed_origin(content: dict[str, Any]) -> dict[str, Any]:
    """A result of format 1 with the names of its provenance that format 2 has."""
    origin = {RENAMED.get(key, key): value for key, value in content["provenance"].items()}
    return content | {"provenance": origin}
