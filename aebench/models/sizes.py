"""How large an autoencoder is: parameters, bytes, layers, multiply-accumulates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from aebench.models.autoencoder import Shape
from aebench.records.encode import Sizes


def sizes(autoencoder: nn.Module, shape: Shape) -> Sizes:
    """Parameters, bytes, MACs per image and layers, whole and by half; moves no weight."""
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
    return Sizes(**found)


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


class Dispatch:
    """Adds torch's own FLOP formula of each operation that has one (products, convolutions).

    torch.utils.flop_counter.FlopCounterMode does the same, but a TorchDispatchMode that defines
    this method itself imports torch._dynamo at its first operation: 1.6 s beside the 2.7 s of
    `import torch` (2-core AMD EPYC 7003, torch 2.14.1). Inherited from outside, it does not.
    """

    flops = 0

    def __torch_dispatch__(
        self,
        operation: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if formula := flop_registry.get(operation._overloadpacket):  # type: ignore[attr-defined]
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


class Counter(Dispatch, TorchDispatchMode):
    """`with Counter() as counter: ...`, then `counter.flops`."""


@torch.no_grad()
def count_macs(module: nn.Module, argument: Tensor) -> tuple[int, Tensor]:
    """Half the floating-point operations of `module(argument)`, and its result."""
    with Counter() as counter:
        result = module(argument)
    return counter.flops // 2, result
