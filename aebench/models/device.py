"""Where a model computes, and that it gives the same bits again."""

import os
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.utils.deterministic

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


def seed_all(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python, which a plug-in may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # takes no larger one
    random.seed(seed)


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
