"""Many small images as one picture."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SPRITE_COLUMNS = 40  # images side by side
LARGEST = 48  # pixels a side of an image in it
# WebP smooths over edges: 0.36 MB for 1,000 images of 32 x 32, lossless 1.7 MB. Smaller ones would
# take the colours of their neighbours: 1,000 digits of 8 x 8 are 0.02 MB, of 16 x 16 x 3 0.5 MB.
LARGEST_LOSSLESS = 16


def tile(height: int, width: int) -> tuple[int, int]:
    """Height and width in a sprite of such an image: scaled down until no side is above 48."""
    scale = min(1, LARGEST / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def size(count: int, height: int, width: int) -> tuple[int, int]:
    """Width and height of the sprite of `count` such images."""
    high, wide = tile(height, width)
    return SPRITE_COLUMNS * wide, -(-count // SPRITE_COLUMNS) * high


def sprite(images: "np.ndarray") -> bytes:
    """WebP of the images uint8 (n, C, H, W), SPRITE_COLUMNS side by side.

    The first is at the top left; the last row is filled up with black.
    """
    from PIL import Image

    count, channels, *shape = images.shape
    height, width = tile(*shape)
    sheet = Image.new("RGB", size(count, *shape))
    for place, image in enumerate(images):
        picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        row, column = divmod(place, SPRITE_COLUMNS)
        sheet.paste(picture, (column * width, row * height))
    file = io.BytesIO()
    sheet.save(file, "WebP", lossless=max(height, width) <= LARGEST_LOSSLESS, quality=85)
    return file.getvalue()
