"""The methods that a model may have: the signature of each says what it uses."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from aebench.errors import Failure, nearest

# What each may name beside its first parameter, and is then given.
OFFERED: dict[str, tuple[str, ...]] = {
    "loss": ("labels", "progress"),
    "fit": ("labels",),
    "optimize": ("labels",),
}


def method(autoencoder: nn.Module, name: str) -> Callable[..., Any] | None:
    """The model's own `loss`, `fit` or `optimize`, where it has one.

    It is looked up on the model, not on a class: of one that is not registered as its class, too.
    """
    return getattr(autoencoder, name, None)


def asked(autoencoder: nn.Module, name: str) -> set[str]:
    """What the method names of what is offered to it; nothing where there is no such method."""
    own = method(autoencoder, name)
    return set() if own is None else set(OFFERED[name]).intersection(parameters(own))


def given(autoencoder: nn.Module, name: str, **offered: Any) -> dict[str, Any]:
    """Those of the offered values that the method names."""
    names = asked(autoencoder, name)
    return {key: value for key, value in offered.items() if key in names}


def learns_from_labels(autoencoder: nn.Module) -> bool:
    """Whether what trains it by gradient names `labels`: `optimize`, or else `loss`."""
    name = "optimize" if method(autoencoder, "optimize") else "loss"
    return "labels" in asked(autoencoder, name)


def is_closed_form(autoencoder: nn.Module) -> bool:
    """Whether `fit` is all its training: nothing follows it."""
    fits, *trains = (method(autoencoder, name) for name in ("fit", "loss", "optimize"))
    return fits is not None and not any(trains)


def check_method(autoencoder: nn.Module, name: str) -> None:
    """Failure for an attribute of that name which is no method, or names what is not offered."""
    own = method(autoencoder, name)
    if own is None:
        return
    if isinstance(own, nn.Module) or not callable(own):
        kind = type(own).__name__
        raise Failure(f"{name} is {kind}; allowed: a method, or none; rename the attribute")
    named = list(parameters(own).values())
    known = ", ".join(OFFERED[name])
    if not named:
        raise Failure(f"{name} takes nothing; allowed: {name}({FIRST[name]}), and of {known}")
    for found in named[1:]:
        if found.name in OFFERED[name] and found.kind == found.POSITIONAL_ONLY:
            raise Failure(f"{name} takes {found.name!r} by position alone; remove the `/`")
        required = found.default is found.empty and found.kind not in VARIABLE
        if required and found.name not in OFFERED[name]:
            what = f"{found.name!r}{nearest(found.name, OFFERED[name])}"
            allowed = f"allowed after {FIRST[name]}: {known}, or what has a default"
            raise Failure(f"{name} asks for {what}; {allowed}")


FIRST = {"loss": "images", "fit": "batches", "optimize": "batches"}
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(own: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Those of the method, without `self`."""
    try:
        return inspect.signature(own).parameters
    except (TypeError, ValueError):  # of one that is not written in Python
        return {"": inspect.Parameter("given", inspect.Parameter.POSITIONAL_ONLY)}
