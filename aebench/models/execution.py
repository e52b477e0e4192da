"""How a model is trained on this machine: by a fixed rule, never by a stopwatch in the run."""

from pathlib import Path

import torch
from torch import nn

from aebench.models.device import Execution, device


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
