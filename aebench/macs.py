"""Count the multiply-accumulates of a forward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


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
