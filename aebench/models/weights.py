"""Trained weights as safetensors, and the model that they belong to."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor, nn

from aebench.errors import AebenchError, Failure
from aebench.models.autoencoder import Autoencoder, Shape, build_autoencoder

if TYPE_CHECKING:
    from aebench.plugins import Model


def weights_bytes(autoencoder: nn.Module, shape: Shape) -> bytes:
    """The state dict as safetensors; its only metadata is the image shape.

    Failure for a state that is no tensor.
    """
    state = autoencoder.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise Failure(
                f"the state holds {name}, {type(value).__name__}; allowed: tensors, "
                "in parameters and buffers (register_buffer)"
            )
    # Cloned: safetensors refuses tied weights, which share memory.
    tensors = {k: t.detach().contiguous().clone() for k, t in state.items()}
    return safetensors.torch.save(tensors, {"shape": json.dumps(list(shape))})


class Stored(NamedTuple):
    """A weights file: its place, the image shape, the state dict."""

    path: Path
    shape: Shape
    tensors: dict[str, Tensor]


def read_weights(path: Path) -> Stored:
    """The content of a file of `weights_bytes`."""
    with safetensors.safe_open(path, framework="pt") as file:
        channels, height, width = json.loads(file.metadata()["shape"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return Stored(path, (channels, height, width), tensors)


def restore(model: "Model", arguments: dict[str, Any], stored: Stored) -> Autoencoder:
    """The model with its trained weights, in eval mode.

    Whatever `build` raises passes through; AebenchError for weights of another architecture.
    """
    autoencoder = build_autoencoder(model, stored.shape, arguments)
    try:
        autoencoder.load_state_dict(stored.tensors)
    except RuntimeError:
        raise AebenchError(
            f"{stored.path}: not of the model that {model.plugin.name} builds now; run `dvc repro`"
        ) from None
    autoencoder.eval()
    autoencoder.requires_grad_(False)
    return autoencoder
