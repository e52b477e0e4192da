"""What every training starts with: a model that its seed alone has shaped."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, Shape, build_autoencoder
from aebench.models.contract import Candidate, check_contract, few
from aebench.models.device import seed_all

if TYPE_CHECKING:
    from aebench.plugins import Model


def started(
    model: "Model", shape: Shape, arguments: Mapping[str, Any], images: Tensor, seed: int
) -> Autoencoder:
    """The model as `build` makes it under the seed; it has seen no image yet.

    A twin that is thrown away has kept the contract on some of the training `images`, uint8 (N, C,
    H, W): what a model takes from the first batch it sees, it takes from training. Failure where
    the twin did not.
    """
    seed_all(seed)
    twin = build_autoencoder(model, shape, arguments)
    inputs = lazy_inputs(twin)
    check_contract(model, Candidate(twin, few(images), arguments.get("latent")))
    del twin
    seed_all(seed)
    autoencoder = build_autoencoder(model, shape, arguments)
    with torch.no_grad():
        for name, size in inputs.items():
            autoencoder.get_submodule(name).eval()(torch.zeros(size))
    for name, parameter in autoencoder.named_parameters():
        if is_lazy(parameter):
            raise Failure(f"parameter {name} is lazy, and neither half uses it; give its sizes")
    return autoencoder


def lazy_inputs(autoencoder: nn.Module) -> dict[str, torch.Size]:
    """Fills with what each lazy layer is given: name -> shape, in the order of their first use.

    Such a layer draws its weights when it is first used, and needs the shape alone for it.
    """
    inputs: dict[str, torch.Size] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def note(module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            inputs.setdefault(name, [*given, *named.values()][0].shape)

        return note

    for name, module in autoencoder.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(map(is_lazy, own)):
            module.register_forward_pre_hook(hook(name), with_kwargs=True)
    return inputs
