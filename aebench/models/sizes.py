"""How large an autoencoder is: parameters, bytes, layers, multiply-accumulates."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from aebench.models.autoencoder import Autoencoder
from aebench.records.encode import Sizes


def sizes(autoencoder: Autoencoder, images: Tensor) -> Sizes:
    """Parameters, bytes, MACs per image and layers, whole and by half; of no decoder all 0.

    What both halves have counts once in the whole. What neither has counts where a half computes
    with it, and else not at all: a critic, a head. `images` float32 (B, C, H, W) on the CPU, as
    the model, which is in eval mode and sees them: it is not to be used further.
    """
    found: dict[str, Any] = {}
    argument, uncounted = images, set[str]()
    parameters, state = set[Tensor](), set[Tensor]()
    for half, module in halves(autoencoder).items():
        counter, result = counted(module, argument)
        own_parameters = {*module.parameters(), *counter.used(autoencoder.parameters())}
        own_state = {*tensors(module), *counter.used(tensors(autoencoder))}
        found[f"{half}_params"] = num_params(own_parameters)
        found[f"{half}_bytes"] = model_bytes(own_state)
        found[f"{half}_macs"] = None if counter.uncounted else counter.flops // 2 // len(images)
        found[f"{half}_layers"] = num_layers(module)
        uncounted |= counter.uncounted
        parameters |= own_parameters
        state |= own_state
        if half == "encoder":
            argument = result
    if autoencoder.decoder is None:
        found |= {f"decoder_{figure}": 0 for figure in ("params", "bytes", "macs", "layers")}
    found |= {"num_params": num_params(parameters), "model_bytes": model_bytes(state)}
    found["code_floats"] = argument.shape[1]
    if not uncounted:
        return Sizes(macs=found["encoder_macs"] + found["decoder_macs"], **found)
    return Sizes(macs=None, uncounted_operations=" ".join(sorted(uncounted)), **found)


def halves(autoencoder: Autoencoder) -> dict[str, nn.Module]:
    """Those there are, by their names, in the order in which they compute."""
    found = {"encoder": autoencoder.encoder, "decoder": autoencoder.decoder}
    return {name: half for name, half in found.items() if half is not None}


def tensors(module: nn.Module) -> Iterable[Tensor]:
    """Those of the state dict: each shared one is one object."""
    return module.state_dict(keep_vars=True).values()


def num_params(parameters: Iterable[Tensor]) -> int:
    """Numbers in the parameters."""
    return sum(p.numel() for p in parameters)


def model_bytes(state: Iterable[Tensor]) -> int:
    """Bytes of a state dict with floating-point entries as float32."""
    return sum(t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in state)


def num_layers(module: nn.Module) -> int:
    """Linear and (transposed) convolution layers."""
    kinds = nn.Linear, nn.modules.conv._ConvNd
    return sum(isinstance(m, kinds) for m in module.modules())


# Words in the names of operations that multiply. torch has formulas of products and convolutions,
# which attention and recurrent layers are made of while the fused forms are off.
MULTIPLYING = {
    *("addbmm", "addmm", "addmv", "baddbmm", "dot", "hspmm", "linear", "matmul", "mm", "mv"),
    *("sspaddmm", "trilinear", "vdot"),
    *("conv", "conv1d", "conv2d", "conv3d", "convolution", "fft"),
    *("attention", "gru", "lstm", "rnn"),
    *("cdist", "euclidean", "pdist"),
    *("cholesky", "eigh", "inverse", "linalg", "lstsq", "lu", "qr", "solve", "svd"),
}


class Dispatch:
    """Adds torch's own FLOP formula of each operation that has one (products, convolutions).

    `uncounted`: the names of those without one that multiply, or are not torch's own. `used` tells
    which tensors were among their arguments.

    torch.utils.flop_counter.FlopCounterMode does the same, but a TorchDispatchMode that defines
    this method itself imports torch._dynamo at its first operation: 1.6 s beside the 2.7 s of
    `import torch` (2-core AMD EPYC 7003, torch 2.14.1). Inherited from outside, it does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.uncounted: set[str] = set()
        self.storages: set[int] = set()

    def used(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Those that some operation was given, or a view of them."""
        dense = [t for t in tensors if t.numel() and t.layout is STRIDED]
        return [t for t in dense if storage(t) in self.storages]

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = tree_leaves((args, kwargs))
        dense = (t for t in given if isinstance(t, Tensor) and t.layout is STRIDED)
        self.storages |= set(map(storage, dense))
        result = operation(*args, **(kwargs or {}))
        if formula := flop_registry.get(operation._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        elif multiplies(operation.namespace, operation._overloadpacket.__name__):
            self.uncounted.add(f"{operation.namespace}.{operation._overloadpacket.__name__}")
        return result


STRIDED = torch.strided  # others, the sparse ones, have no single storage


def storage(tensor: Tensor) -> int:
    """Where the numbers of a tensor, and of its views, begin in memory."""
    return tensor.untyped_storage().data_ptr()


class Counter(Dispatch, TorchDispatchMode):
    """`with Counter() as counter: ...`, then `counter.flops` and `counter.uncounted`."""


def multiplies(namespace: str, name: str) -> bool:
    """Whether an operation without a formula may hold products; one that is not torch's may."""
    if namespace not in ("aten", "prim", "prims"):
        return namespace != "profiler"  # DataParallel's marks
    none = name.endswith(("check_errors", "vector_norm"))  # _linalg_check_errors
    return bool(MULTIPLYING.intersection(name.split("_"))) and not none


@torch.no_grad()
def counted(module: nn.Module, argument: Tensor) -> tuple[Counter, Tensor]:
    """The counter of `module(argument)`, and its result."""
    with unfused(), Counter() as counter:
        result = module(argument)
    return counter, result


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Let layers take the form that is made of operations which torch has formulas of."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TF32 on Intel GPUs, which the flags touch
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
