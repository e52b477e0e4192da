"""The whole state of a training by the recipe, and putting it back: the bits to come are equal."""

import hashlib
import os
import pickle
import random
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aebench.models.autoencoder import Autoencoder
from aebench.models.batches import Stream
from aebench.provenance import cpu_name
from aebench.surroundings import torch_state

# What a module keeps elsewhere, or what State has of it.
KEPT = {"training", "_parameters", "_buffers", "_modules"}
# Of environment variables, by which the libraries choose their kernels.
KERNELS = ("ATEN_", "CUBLAS_", "CUDNN_", "DNNL_", "MKL_", "NVIDIA_", "ONEDNN_", "OPENBLAS_")


@dataclass
class State:
    """What the bits to come depend on, between two steps. It holds the tensors themselves."""

    autoencoder: Autoencoder
    stream: Stream
    momenta: Mapping[nn.Parameter, Tensor]
    grams: Mapping[nn.Parameter, tuple[Tensor, Tensor]]
    moments: Mapping[nn.Parameter, tuple[Tensor, Tensor, Tensor]]

    def tensors(self) -> dict[str, Tensor]:
        """Of model and optimizers, each once, by name: buffers that no state dict has, too."""
        names = {id(p): name for name, p in self.autoencoder.named_parameters()}
        found = {f"parameter {name}": p for name, p in self.autoencoder.named_parameters()}
        found |= {f"buffer {name}": b for name, b in self.autoencoder.named_buffers()}
        found |= {f"momentum {names[id(p)]}": momentum for p, momentum in self.momenta.items()}
        for p, (gram, root) in self.grams.items():
            found |= {f"gram {names[id(p)]}": gram, f"root {names[id(p)]}": root}
        for p, state in self.moments.items():
            kinds = zip(("mean", "square", "count"), state, strict=True)
            found |= {f"{kind} {names[id(p)]}": tensor for kind, tensor in kinds}
        return found

    def layout(self) -> list[list[Any]]:
        """How the tensors lie in memory, tied ones with each name: bits may depend on it."""
        found, first = [], dict[int, str]()
        parts = dict(self.autoencoder.named_parameters(remove_duplicate=False))
        parts |= dict(self.autoencoder.named_buffers(remove_duplicate=False))
        for name, tensor in [*parts.items(), *self.tensors().items()]:
            shared = first.setdefault(tensor.untyped_storage().data_ptr(), name)
            place = [shared, tensor.storage_offset(), *tensor.stride()]
            found.append([name, str(tensor.dtype), [*tensor.shape], place])
        return found

    def digests(self) -> dict[str, str]:
        """A hash of each tensor's values, by name."""
        return {name: hashlib.sha256(raw(t)).hexdigest() for name, t in self.tensors().items()}

    def odd(self) -> str | None:
        """The first tensor whose values cannot be put back in place, in words."""
        for name, tensor in self.tensors().items():
            plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
            free = plain and tensor.grad_fn is None and not tensor.is_inference()
            if not free or any(
                step == 0 and size > 1
                for step, size in zip(tensor.stride(), tensor.shape, strict=True)
            ):
                return f"{name} is no plain tensor of its own"
        return None

    def machine(self) -> list[Any]:
        """What has to agree for equal bits, beside settings, code and data; as JSON has it."""
        how = self.stream.how
        gpu = torch.cuda.get_device_name() if how.device == "cuda" else None
        kernels = sorted((k, v) for k, v in os.environ.items() if k.startswith(KERNELS))
        libraries = torch.__config__.show()  # and the instructions that torch uses
        return [vars(how), torch.get_num_threads(), cpu_name(), gpu, libraries, kernels]

    def facts(self) -> dict[str, Any]:
        """All but the tensors' values, as JSON has it, with NaN."""
        parameters = self.autoencoder.named_parameters()
        return {
            "layout": self.layout(),
            "position": self.stream.position(),
            "generators": generators(self.stream.how.device),
            "trainable": [name for name, p in parameters if p.requires_grad],
            "training": [name for name, m in self.autoencoder.named_modules() if m.training],
        }

    def values(self) -> Iterator[memoryview]:
        """Of each of the tensors, in their order: see `raw`."""
        return map(raw, self.tensors().values())

    def put_back(self, values: Callable[[str], np.ndarray]) -> None:
        """Let the tensors have, for each name, `values` (uint8, see `raw`)."""
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                value = torch.from_numpy(values(name)).view(tensor.dtype)
                tensor.copy_(value.view(tensor.shape))

    def go_on(self, facts: Mapping[str, Any]) -> None:
        """Be again what `facts` were of, but for the tensors' values."""
        for name, p in self.autoencoder.named_parameters():
            p.requires_grad_(name in facts["trainable"])
        for name, module in self.autoencoder.named_modules():
            module.training = name in facts["training"]
        self.stream.go_on(facts["position"])
        set_generators(facts["generators"], self.stream.how.device)

    def elsewhere(self, plugin: Iterable[types.ModuleType]) -> dict[str, Any]:
        """What else could hold a state that the bits depend on: by name, digests to be compared.

        Attributes of the model's modules that are no parameter, buffer or module; the classes and
        globals of the modules of Python that the plug-in is; torch's settings. What cannot be
        digested differs from everything. Drawing random numbers meanwhile has no effect.
        """
        device = self.stream.how.device
        before = generators(device)
        try:
            return self.digested(plugin)
        finally:
            set_generators(before, device)

    def digested(self, plugin: Iterable[types.ModuleType]) -> dict[str, Any]:
        """See `elsewhere`: of values whose own code may be called for it."""
        names = {id(m): name for name, m in self.autoencoder.named_modules()}
        names |= {id(tensor): name for name, tensor in self.tensors().items()}
        names[id(self.autoencoder)] = "the model"
        found: dict[str, Any] = {"torch's settings": torch_state()}
        for module in self.autoencoder.modules():
            place = names[id(module)]
            skipped = KEPT | set(derived(module))
            for name, value in vars(module).items():
                if name not in skipped:
                    found[f"attribute {name} of {place}"] = digest(value, names)
        for python in plugin:
            found |= digests(f"global {python.__name__}", vars(python), names)
            for kind in [v for v in vars(python).values() if isinstance(v, type)]:
                if kind.__module__ == python.__name__:
                    found |= digests(f"attribute of class {kind.__qualname__}", vars(kind), names)
        # A class that stands inside of `build` is no global.
        for kind in {type(m) for m in self.autoencoder.modules()}:
            if "<locals>" in kind.__qualname__:
                found |= digests(f"attribute of class {kind.__qualname__}", vars(kind), names)
        return found


def digests(place: str, content: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """Of what is in a class or a module, without Python's own."""
    own = {k: v for k, v in content.items() if not k.startswith("__") and k != "_abc_impl"}
    return {f"{place} {name}": digest(value, names) for name, value in own.items()}


def derived(module: nn.Module) -> Iterator[str]:
    """The attributes that torch's own hooks compute anew from parameters before each use."""
    for hook in module._forward_pre_hooks.values():
        if type(hook).__module__.startswith("torch.nn.utils."):
            yield getattr(hook, "name", None) or getattr(hook, "_tensor_name", "")


def digest(value: Any, names: Mapping[int, str]) -> Any:
    """Equal for equal values within one process; `names`: by id, what is known by its name."""
    found = Digest(names)
    try:
        found.dump(value)
    except Exception:
        return object()
    return found.sha256.hexdigest()


class Digest(pickle.Pickler):
    """Makes a hash of what a pickle of the value would be. Nothing is ever unpickled."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.sha256 = hashlib.sha256()
        self.names = names
        self.functions: set[int] = set()
        super().__init__(self, protocol=5)

    def write(self, data: Any) -> None:
        """The stream that it writes to is itself."""
        self.sha256.update(data)

    def persistent_id(self, value: Any) -> Any:
        """What stands for values whose pickle says too little, or is none."""
        if id(value) in self.names:
            return self.names[id(value)]
        if isinstance(value, Tensor):
            content = hashlib.sha256(raw(value)).hexdigest()
            return str(value.dtype), [*value.shape], str(value.device), content
        if isinstance(value, types.FunctionType):
            if id(value) in self.functions:
                return id(value)
            self.functions.add(id(value))
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            given = value.__defaults__, value.__kwdefaults__, vars(value)
            return id(value), id(value.__code__), cells, given
        if isinstance(value, weakref.ref):
            return "weakref", value()
        if isinstance(value, types.ModuleType | type | property | staticmethod | classmethod):
            return id(value)
        return None


def raw(tensor: Tensor) -> memoryview:
    """The values as bytes, in the order of the shape; of the same memory if it can be."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def generators(device: str) -> dict[str, Any]:
    """The states of the global random generators, as JSON has it."""
    version, words, gauss = random.getstate()
    kind, key, *rest = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, key.tolist(), *rest],  # type: ignore[union-attr]  # of the usual kind
        "torch": torch.get_rng_state().tolist(),
        "cuda": [s.tolist() for s in torch.cuda.get_rng_state_all()] if device == "cuda" else [],
    }


def set_generators(found: Mapping[str, Any], device: str) -> None:
    """Let them go on from there."""
    version, words, gauss = found["python"]
    random.setstate((version, tuple(words), gauss))
    kind, key, *rest = found["numpy"]
    np.random.set_state((kind, np.array(key, np.uint32), *rest))
    torch.set_rng_state(torch.tensor(found["torch"], dtype=torch.uint8))
    if device == "cuda":
        torch.cuda.set_rng_state_all([torch.tensor(s, dtype=torch.uint8) for s in found["cuda"]])
