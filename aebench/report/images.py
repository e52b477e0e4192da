"""Images of a page as data URIs."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

from aebench.report.texts import on_one_line

LARGEST = 96  # pixels of an image's side in a page
EXACT = 48  # higher ones are not written without loss: 10 of 96 x 96 take 250 kB as PNG


class Images:
    """Rows of images, each encoded once, and written once."""

    def __init__(self) -> None:
        self.found: dict[bytes, tuple[str, int, int]] = {}
        self.ids: dict[str, str] = {}  # URI -> id of where it stands

    @property
    def size(self) -> int:
        """Characters of all."""
        return sum(len(uri) for uri, _, _ in self.found.values())

    def strip(self, images: np.ndarray, words: str) -> Markup:
        """The images uint8 (n, C, H, W) side by side as one picture, `words` in its place."""
        uri, width, height = self.uri(images)
        text = on_one_line(f"{len(images)} images: {words.strip()}")
        size = Markup('width="{}" height="{}"').format(width, height)
        if uri in self.ids:  # the originals stand on every card
            inside = Markup('<use href="#{}"/>').format(self.ids[uri])
        else:
            self.ids[uri] = f"i{len(self.ids)}"
            inside = Markup('<image id="{}" href="{}" {}/>').format(self.ids[uri], uri, size)
        pattern = '<svg class="pixels" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        return Markup(pattern).format(width, height, text, inside)

    def uri(self, images: np.ndarray) -> tuple[str, int, int]:
        """The data URI, its width and height."""
        key = repr(images.shape).encode() + images.tobytes()
        if key not in self.found:
            self.found[key] = encoded(images)
        return self.found[key]


def encoded(images: np.ndarray) -> tuple[str, int, int]:
    """PNG of small images, WebP of large ones, with clear gaps; no larger than LARGEST."""
    shown = smaller(images)
    pixels = side_by_side(shown)
    image = Image.fromarray(pixels)
    content = io.BytesIO()
    exact = shown.shape[2] <= EXACT
    if exact:
        image.save(content, "PNG", compress_level=6)
    else:
        image.save(content, "WEBP", quality=85, method=2)
    kind = "png" if exact else "webp"
    words = base64.b64encode(content.getvalue()).decode()
    return f"data:image/{kind};base64,{words}", image.width, image.height


def smaller(images: np.ndarray) -> np.ndarray:
    """uint8 (n, C, h, w), neither side above LARGEST."""
    side = max(images.shape[2:])
    if side <= LARGEST:
        return images
    height, width = (max(1, round(length * LARGEST / side)) for length in images.shape[2:])
    found: Sequence[np.ndarray] = [
        np.stack(
            [
                np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BOX))
                for channel in image
            ]
        )
        for image in images
    ]
    return np.stack(found)


def side_by_side(images: np.ndarray) -> np.ndarray:
    """As one picture with an alpha channel: uint8 (h, n * (w + gap) - gap, 2 or 4)."""
    count, channels, height, width = images.shape
    gap = max(1, width // 16)
    found = np.zeros((height, count, width + gap, channels + 1), np.uint8)
    found[:, :, :width, :channels] = images.transpose(2, 0, 3, 1)
    found[:, :, :width, channels] = 255
    return found.reshape(height, count * (width + gap), channels + 1)[:, :-gap]
