"""The plug-in contract: build, check, count, store and load an autoencoder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from aebench.errors import AebenchError, Failure, nearest
from aebench.files import PLAN, file_hash, plan_path, read_json, result_path, run_path
from aebench.macs import count_macs
from aebench.plugins import Model, load_model

Shape = tuple[int, int, int]


class Autoencoder(nn.Module):
    """The two halves of a plug-in that returns `(encoder, decoder)`."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder


def build_autoencoder(model: Model, shape: Shape, arguments: Mapping[str, Any]) -> Autoencoder:
    """A freshly initialised model that kept its contract for two images.

    Failure where it did not; whatever `build` raises passes through.
    """
    where = f"{model.plugin.name}: model {model.name!r}"
    built = model.build(shape, **arguments)
    if (
        isinstance(built, tuple)
        and len(built) == 2
        and all(isinstance(b, nn.Module) for b in built)
    ):
        built = Autoencoder(*built)
    halves = [getattr(built, half, None) for half in ("encoder", "decoder")]
    if not isinstance(built, nn.Module) or not all(isinstance(h, nn.Module) for h in halves):
        raise Failure(
            f"{where}: build returned {type(built).__name__}, expected (encoder, decoder) "
            "or an nn.Module with .encoder and .decoder"
        )
    autoencoder = cast(Autoencoder, built)  # it has the two halves
    check_contract(autoencoder, shape, arguments.get("latent"), where)
    return autoencoder


@torch.no_grad()
def check_contract(autoencoder: Autoencoder, shape: Shape, latent: int | None, where: str) -> None:
    """Failure unless images -> codes (B, latent) -> images keep their shapes."""
    autoencoder.eval()
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    codes = autoencoder.encoder(images)
    expected = f"(2, {latent or 'latent'})"
    if (
        not isinstance(codes, Tensor)
        or codes.ndim != 2
        or codes.shape
        != (
            2,
            latent or codes.shape[-1],
        )
    ):
        raise Failure(f"{where}: encoder returned {words(codes)} for 2 images, expected {expected}")
    decoded = autoencoder.decoder(codes)
    if not isinstance(decoded, Tensor) or decoded.shape != images.shape:
        raise Failure(
            f"{where}: decoder returned {words(decoded)} for 2 codes, "
            f"expected {tuple(images.shape)}"
        )


def words(value: Any) -> str:
    """The shape of a tensor, the type of anything else."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def reconstruction_loss(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """The model's own loss, or the mean squared error over all elements."""
    if callable(own := getattr(autoencoder, "loss", None)):
        return own(images)
    return nn.functional.mse_loss(autoencoder.decoder(autoencoder.encoder(images)), images)


def as_floats(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [0, 1], the same shape."""
    return images.float().div_(255)


def encodes_pixels(autoencoder: Autoencoder) -> bool:
    """Whether the codes are the pixels themselves: they are then not stored a second time."""
    return isinstance(autoencoder.encoder, nn.Flatten | nn.Identity)


def sizes(autoencoder: Autoencoder, shape: Shape) -> dict[str, Any]:
    """Parameters, bytes (float32 state dict), MACs per image and layers, whole and by half."""
    found: dict[str, Any] = {
        "num_params": num_params(autoencoder),
        "model_bytes": model_bytes(autoencoder),
        "macs": 0,
    }
    argument = torch.zeros(1, *shape)
    for half in ("encoder", "decoder"):
        module = getattr(autoencoder, half)
        macs, argument = count_macs(module, argument)
        found[f"{half}_params"] = num_params(module)
        found[f"{half}_bytes"] = model_bytes(module)
        found[f"{half}_macs"] = macs
        found[f"{half}_layers"] = num_layers(module)
        found["macs"] += macs
        if half == "encoder":
            found["code_floats"] = argument.shape[1]
    return found


def num_params(module: nn.Module) -> int:
    """Numbers in the module's parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def model_bytes(module: nn.Module) -> int:
    """Bytes of the state dict with floating-point entries as float32."""
    return sum(
        t.numel() * (4 if t.is_floating_point() else t.element_size())
        for t in module.state_dict().values()
    )


def num_layers(module: nn.Module) -> int:
    """Linear and (transposed) convolution layers."""
    kinds = nn.Linear, nn.modules.conv._ConvNd
    return sum(isinstance(m, kinds) for m in module.modules())


def weights_bytes(autoencoder: nn.Module, shape: Shape) -> bytes:
    """The state dict as safetensors; its only metadata is the image shape."""
    # Cloned: safetensors refuses tied weights, which share memory.
    tensors = {k: t.detach().contiguous().clone() for k, t in autoencoder.state_dict().items()}
    return safetensors.torch.save(tensors, {"shape": json.dumps(list(shape))})


def restore(plan: dict[str, Any], weights: Path) -> tuple[Autoencoder, Shape]:
    """The trained model of a plan, in eval mode, and its image shape.

    Whatever `build` raises passes through; AebenchError for weights of another architecture.
    """
    with safetensors.safe_open(weights, framework="pt") as file:
        channels, height, width = json.loads(file.metadata()["shape"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    shape = (channels, height, width)
    autoencoder = build_autoencoder(load_model(plan), shape, plan["build"])
    try:
        autoencoder.load_state_dict(tensors)
    except RuntimeError:
        raise AebenchError(
            f"{weights}: not of the model that {plan['plugin']} builds now; run `dvc repro`"
        ) from None
    return autoencoder.eval().requires_grad_(False), shape


def load(run: str, seed: int = 0) -> Any:
    """The trained autoencoder of a run, for your own images.

    An `nn.Module` in eval mode, without gradients, with `.encoder`: float32 (B, C, H, W) in [0, 1]
    -> codes (B, latent), `.decoder` back, and `.shape` (C, H, W). Call it in the workspace after
    `dvc repro`. AebenchError for an unknown, failed or outdated run.
    """
    if not plan_path(run, "train").is_file():
        known = sorted(path.parent.name for path in PLAN.glob("*/train.json"))
        raise AebenchError(
            f"unknown run {run!r}{nearest(run, known)}; "
            f"runs: {', '.join(known) or 'none: run `dvc repro` in the workspace first'}"
        )
    result = read_json(result_path(run, seed, "train.json"), "dvc repro")
    if result["plan_hash"] != file_hash(plan_path(run, "train")):
        raise AebenchError(f"run {run!r} was trained with other settings; run `dvc repro`")
    if result["status"] != "ok":
        raise AebenchError(f"run {run!r}, seed {seed}: {result['status']}")
    plan = read_json(plan_path(run, "encode"), "aebench plan")
    autoencoder, shape = restore(plan, run_path(run, seed, "weights.safetensors"))
    autoencoder.shape = shape  # type: ignore[assignment]
    return autoencoder
