"""Where and how a model computes: chosen by a fixed rule, never by a stopwatch in the run."""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

# Multiply-accumulates per image from which bfloat16 pays for casting the weights at every step: a
# convolutional model of 0.1 million trained at 0.68 times the speed, those from 3 million on at
# 1.5 to 2.8 times (AMD EPYC, Zen 5).
BFLOAT16_MACS = 1_000_000
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Execution:
    """Device, precision of the products (weights stay float32) and memory layout of images."""

    device: str  # cpu or cuda
    precision: str  # float32 or bfloat16
    layout: str  # a key of FORMATS


def device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose(device: str, fast_bfloat16: bool, macs: int, convolutions: bool) -> Execution:
    """The rule. `macs` per image, forward; `convolutions`: whether the model has any.

    - bfloat16 where the device multiplies it faster than float32, for models that are large enough.
    - channels_last for convolutions on a GPU or in bfloat16. In float32 on a CPU a step takes 1.2
      times as long with it (cnn, batch 128: 38.7 ms against 32.8, Intel Xeon, Sapphire Rapids).
    - Nothing is compiled: that takes 3 to 18 s at the start, and a C++ compiler.
    """
    bfloat16 = fast_bfloat16 and macs >= BFLOAT16_MACS
    return Execution(
        device,
        "bfloat16" if bfloat16 else "float32",
        "channels_last" if convolutions and (device == "cuda" or bfloat16) else "contiguous",
    )


def execution(module: nn.Module, macs: int) -> Execution:
    """What the rule says for this machine."""
    on = device()
    fast = torch.cuda.is_bf16_supported() if on == "cuda" else cpu_has_fast_bfloat16()
    convolutions = any(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())
    return choose(on, fast, macs, convolutions)


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
    """Let glibc reuse freed blocks of any size instead of returning them to the system.

    A step frees and asks again for tens of MB, and every fresh page costs a fault: 14.7 ms a step
    instead of 19.6 (mlp, batch 128), 40 instead of 50 (cnn; Intel Xeon, Sapphire Rapids). For a
    process that trains or encodes and ends.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # noqa: N806  # malloc.h
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def exact_float32() -> None:
    """Keep a GPU's convolutions from rounding to TF32, which torch lets them by default."""
    torch.backends.cudnn.allow_tf32 = False
