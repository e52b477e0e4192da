"""Where and how a model computes: chosen by a fixed rule, never by a stopwatch in the run."""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.utils.deterministic
from torch import nn

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Execution:
    """Device, precision of the products (weights stay float32) and memory format of images."""

    device: str  # cpu or cuda
    precision: str  # float32 or bfloat16
    memory_format: str  # of images: a key of FORMATS


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_name() -> str | None:
    """The GPU that `device` takes; None without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def choose(device: str, fast_bfloat16: bool, convolutions: bool) -> Execution:
    """The rule. `convolutions`: whether the model has 2-d ones, and no 3-d ones.

    - bfloat16 where the device multiplies it faster than float32. A step of 256 images took 22 ms
      with it instead of 35 (mlp), 35 instead of 53 (combo), 45 instead of 86 (cnn), and with depth
      1, which multiplies 40 times less, 8 instead of 10 (AMD EPYC, Zen 4, 2 cores).
    - channels_last for 2-d convolutions on a GPU. On a CPU, flattening their maps costs more than
      it brings: 60 ms instead of 45 (cnn), 10 instead of 8 (depth 1).
    - Nothing is compiled: that takes 3 to 18 s at the start, and a C++ compiler.
    """
    return Execution(
        device,
        "bfloat16" if fast_bfloat16 else "float32",
        "channels_last" if convolutions and device == "cuda" else "contiguous",
    )


def execution(module: nn.Module) -> Execution:
    """What the rule says for this machine."""
    on = device()
    if on == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = cpu_has_fast_bfloat16()
    return choose(on, fast, convolves_2d(module))


def convolves_2d(module: nn.Module) -> bool:
    """Whether channels_last fits: some weights have 4 dimensions, none has 5, which refuses it."""
    return {p.ndim for p in module.parameters()} & {4, 5} == {4}


def cpu_has_fast_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 faster than float32, as far as it tells.

    AMX does, AMD's AVX-512 does (2 to 4 times); Intel's AVX-512 has the instruction at float32's
    rate: 148 GFLOP/s against 237 (Sapphire Rapids whose AMX is hidden, 2 cores).
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((row.split() for row in text.splitlines() if row.startswith("flags")), [])
    return "amx_bf16" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in text)


def keep_freed_memory() -> None:
    """Let glibc reuse freed blocks instead of returning them to the system.

    A step frees and asks again for tens of MB, and every fresh page costs a fault: 14.7 ms a step
    instead of 19.6 (mlp, batch 128), 40 instead of 50 (cnn; Intel Xeon, Sapphire Rapids). For a
    process that trains or encodes and ends.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # noqa: N806  # malloc.h
        # Before 2.35 glibc takes 32 MB at most, and leaves all as it was for more.
        if mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 32 << 20):
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def exact_float32() -> None:
    """Keep a GPU's convolutions from rounding to TF32, which torch lets them by default."""
    torch.backends.cudnn.allow_tf32 = False


def deterministic() -> None:
    """Make the same training give the same bits on the same machine, threads and precision.

    An operation that has no such form warns and is used as it is. To be called before the first
    product on a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # docs.nvidia.com/cuda/cublas
    torch.backends.cudnn.benchmark = False
    # use_deterministic_algorithms does the same and imports the compiler for it, 1.6 s.
    torch.set_deterministic_debug_mode("warn")
    # Memory is then filled before its first use, to show its wrong use: the plug-in's own affair.
    # torch sets it by a property of the module, which its types do not tell.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
