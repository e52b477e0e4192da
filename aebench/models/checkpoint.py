"""Begin with a state dict from a file: the whole model's, or parts of it."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from aebench.errors import Failure, is_machine_failure, nearest
from aebench.models.autoencoder import kind
from aebench.models.finish import as_built
from aebench.plugins import warn_once

SHOWN = 3  # keys that a message names
LFS, ZIP = b"version https://git-lfs", b"PK\x03\x04"
WRAPPERS = {"module.": " (of DataParallel)", "_orig_mod.": " (of torch.compile)"}
SAVE = "torch.save(model.state_dict(), 'FILE.pt')"


def begin_with(autoencoder: nn.Module, path: Path) -> bool:
    """Load the file's state dict in place; whether it is the whole model's.

    Each of the model's own attributes that the file names (`encoder`, `decoder`, ...) has to be in
    it whole; a file of one deeper module alone (`encoder.stem`) has to hold all of that. Floats
    take the model's type. Failure for a file that is none, and for keys, shapes, types or values
    that do not fit. No code of the file is executed.
    """
    state = autoencoder.state_dict(keep_vars=True)
    try:
        given = tensors(read(path))
        check_keys(given, state)
        check_tensors(given, state)
    except Failure as error:
        raise Failure(f"{path.as_posix()}: {error}") from None
    kinds = {kind(t) for key, t in given.items() if t.dtype != state[key].dtype}
    if kinds:
        warn_once(f"{path.as_posix()}: {', '.join(sorted(kinds))} is converted to the model's type")
    autoencoder.load_state_dict(given, strict=False)
    return {id(state[key]) for key in given} == set(map(id, state.values()))


def read(path: Path) -> Any:
    """What the file holds, on the CPU."""
    with path.open("rb") as file:
        head = file.read(len(LFS))
    is_safetensors = path.suffix.lower() == ".safetensors"
    if head == LFS:
        raise Failure("a pointer of Git LFS, not the file itself; run `git lfs pull`")
    if is_safetensors and head.startswith(ZIP):
        raise Failure("a file of torch.save; let its name end in .pt")
    if not is_safetensors and head[8:9] == b"{":
        raise Failure("a file of safetensors; let its name end in .safetensors")
    try:
        if is_safetensors:
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings(action="ignore"):  # of old formats, sparse tensors
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if is_machine_failure(error) or isinstance(error, OSError):
            raise
        text = str(error)
        code = re.search(r"GLOBAL ([\w.]*\w)|(TorchScript)", text)
        if code and not is_safetensors:
            raise Failure(
                f"holds {code[1] or code[2]}, and reading that would run code of the file, which "
                f"is never done; save tensors alone: {SAVE}"
            ) from None
        reason = text.rpartition("WeightsUnpickler error: ")[2].strip() or type(error).__name__
        raise Failure(
            f"cannot be read as {path.suffix} ({reason.splitlines()[0][:100].rstrip('. ')}); copy "
            f"it again if it is not whole, or save it anew: {SAVE}"
        ) from None


def tensors(content: Any) -> dict[str, Tensor]:
    """The content, if it is a state dict."""
    if not isinstance(content, Mapping):
        raise Failure(f"holds {type(content).__name__}, no state dict; save that alone: {SAVE}")
    if not content:
        raise Failure(f"holds an empty state dict; save that of a model: {SAVE}")
    if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        return {key: tensor.detach() for key, tensor in content.items()}
    if inner := state_dicts("x", content):
        of = f"x = torch.load('FILE.pt', weights_only=True); torch.save({inner[0]}, 'NEW.pt')"
        raise Failure(
            f"holds {listed([repr(key) for key in content])}, no state dict, which "
            f"{' and '.join(inner[:SHOWN])} may be; save that alone: {of}"
        )
    odd = [
        f"{key!r} ({type(value).__name__})"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    raise Failure(f"holds {listed(odd)}; allowed: names with their tensors alone, as of {SAVE}")


def state_dicts(place: str, value: Any, depth: int = 3) -> list[str]:
    """The places of state dicts at and below a value: `x['model']`."""
    if not isinstance(value, Mapping) or not value or not depth:
        return []
    if not all(isinstance(key, str) for key in value):  # as in an optimizer's state
        return []
    if all(isinstance(item, Tensor) for item in value.values()):
        return [place]
    return [p for k, v in value.items() for p in state_dicts(f"{place}[{k!r}]", v, depth - 1)]


def check_keys(given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Failure for a key that the model lacks, and for one that lacks in a part."""
    unknown = [key for key in given if key not in state]
    if unknown:
        if fix := renamed(given, state):
            raise Failure(fix)
        names = [f"{key}{nearest(key, state)}" for key in unknown[:SHOWN]]
        raise Failure(
            f"holds {listed(names, len(unknown))}, which the model lacks; allowed: its own keys "
            f"({listed(list(state))}): remove the others, or build the model that they are of"
        )
    # A tensor with two names needs one of them.
    known = {id(state[key]) for key in given}
    top = parts(list(given))
    missing = [
        key
        for key, tensor in state.items()
        if id(tensor) not in known
        and any(f"{key}.".startswith(part) for part in top)
        and not key.endswith("num_batches_tracked")  # converters leave it out, it computes nothing
    ]
    if missing:
        names = " and ".join(part.rstrip(".") for part in top)
        raise Failure(
            f"has a part of {names}, but lacks {listed(missing)}; allowed: a file with all of each "
            "part that it names"
        )


def parts(keys: list[str]) -> list[str]:
    """The modules that the keys are of, each with a final dot: see `begin_with`."""
    split = [key.split(".") for key in keys]
    shared = 0
    while all(len(names) > shared + 1 and names[shared] == split[0][shared] for names in split):
        shared += 1
    if shared:
        return [".".join([*split[0][:shared], ""])]
    return list(dict.fromkeys(f"{names[0]}." for names in split))


def renamed(given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """What to say where all keys would be the model's with another beginning."""
    for wrapper, whose in WRAPPERS.items():
        if all(key.replace(wrapper, "") in state for key in given):
            return (
                f"its keys have {wrapper!r} in them{whose}; save without it: "
                f"{{k.replace({wrapper!r}, ''): v for k, v in x.items()}}"
            )
    first = next(iter(given))
    for start in [first[: i + 1] for i, letter in enumerate(first) if letter == "."]:
        if all(key.startswith(start) and key[len(start) :] in state for key in given):
            return (
                f"its keys begin with {start!r}, which the model's do not; save without it: "
                f"{{k.removeprefix({start!r}): v for k, v in x.items()}}"
            )
    starts = {key.removesuffix(first) for key in state if key.endswith(f".{first}")}
    if fitting := sorted(s for s in starts if all(f"{s}{key}" in state for key in given)):
        named = " or ".join(map(repr, fitting[:SHOWN]))
        return (
            f"its keys are those of a part alone; put {named} before them: "
            f"{{{fitting[0]!r} + k: v for k, v in x.items()}}"
        )
    return None


def check_tensors(given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Failure for shapes, types and values that do not fit."""
    shapes = [
        f"{key} {tuple(tensor.shape)} for {tuple(state[key].shape)}"
        for key, tensor in given.items()
        if tensor.shape != state[key].shape
    ]
    if shapes:
        raise Failure(
            f"has other shapes than the model: {listed(shapes)}; allowed: a file of the same "
            "image shape, latent, depth and options"
        )
    first: dict[int, str] = {}
    for key, tensor in given.items():
        own = state[key]
        floats = tensor.is_floating_point() and own.is_floating_point()
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise Failure(f"{key} is sparse, quantised or without values; allowed: plain tensors")
        if tensor.dtype != own.dtype and not floats:
            allowed = "any floats" if own.is_floating_point() else kind(own)
            raise Failure(f"{key} is {kind(tensor)}; allowed: {allowed}, as in the model")
        value = tensor.to(own.dtype)
        if not value.isfinite().all() and not as_built(value, own.cpu()):
            raise Failure(f"{key} holds NaN or infinity as {kind(own)}; allowed: finite numbers")
        other = first.setdefault(id(own), key)
        if other != key and not torch.equal(given[other].to(own.dtype), value):
            raise Failure(f"{other} and {key} are one tensor in the model, but differ in the file")


def listed(names: list[str], count: int | None = None) -> str:
    """The first names, and how many more there are."""
    more = (len(names) if count is None else count) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
