"""aebench: what does an image representation cost, and what does it keep?

This module only names what is public; everything is imported on first use. So a command has hardly
begun when it can hear Ctrl-C.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aebench.api import load, read_images
    from aebench.errors import AebenchError, Refused
    from aebench.hookspecs import hookimpl

__all__ = ["AebenchError", "Refused", "hookimpl", "load", "read_images"]
PLACES = {
    "AebenchError": "errors",
    "Refused": "errors",
    "hookimpl": "hookspecs",
    "load": "api",
    "read_images": "api",
}


def __getattr__(name: str) -> Any:
    """The public name, from its module."""
    if name not in PLACES:
        raise AttributeError(f"module 'aebench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"aebench.{PLACES[name]}"), name)
