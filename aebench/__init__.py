"""aebench: what does an image representation cost, and what does it keep?

This module only gathers the public names; everything heavy is imported on first use.
"""

from typing import TYPE_CHECKING, Any

from aebench.errors import AebenchError, Refused
from aebench.hookspecs import hookimpl

if TYPE_CHECKING:
    from aebench.api import load, read_images

__all__ = ["AebenchError", "Refused", "hookimpl", "load", "read_images"]


def __getattr__(name: str) -> Any:
    """Import `load` (torch when called) and `read_images` when first asked for."""
    if name in ("load", "read_images"):
        from aebench import api

        return getattr(api, name)
    raise AttributeError(f"module 'aebench' has no attribute {name!r}")
