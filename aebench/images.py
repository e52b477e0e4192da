"""Image files -> uint8 arrays."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aebench.errors import AebenchError
from aebench.progress import bar

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


def decode(path: str) -> "Image":
    """The upright 8-bit image, mode L or RGB. AebenchError for a file that is no whole image."""
    from PIL import Image, ImageOps

    content = Path(path).read_bytes()  # before the try: a failing disk is not a corrupt image
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AebenchError(
            f"{path}: not a whole image ({' '.join(str(error).split())}); replace or remove it"
        ) from None
    if image.mode.startswith("I"):  # 16-bit grey: PIL's own conversion clips at 255
        return Image.fromarray((pixels(image) >> 8).astype("uint8"))
    return image.convert("L" if image.mode in ("1", "L", "LA", "F") else "RGB")


def convert(image: "Image", image_size: int | None, channels: int | None) -> "np.ndarray":
    """uint8 (C, H, W). `image_size`: the shorter side, antialiased bilinear, then centre crop."""
    from PIL import Image

    if image_size is not None and image.size != (image_size, image_size):
        width, height = image.size
        scale = image_size / min(width, height)
        width, height = round(width * scale), round(height * scale)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - image_size) // 2, (height - image_size) // 2
        image = image.crop((left, top, left + image_size, top + image_size))
    if channels is not None:
        image = image.convert("L" if channels == 1 else "RGB")
    array = pixels(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def pixels(image: "Image") -> Any:
    """The image as an array (H, W) or (H, W, 3)."""
    import numpy as np

    return np.asarray(image)


def read_arrays(paths: list[str], image_size: int | None, channels: int | None) -> "np.ndarray":
    """uint8 (N, C, H, W) in the order of `paths`. AebenchError where the shapes disagree."""
    import numpy as np

    def read(path: str) -> "np.ndarray":
        return convert(decode(path), image_size, channels)

    first = read(paths[0])
    images = np.empty((len(paths), *first.shape), np.uint8)
    with ThreadPoolExecutor() as pool:  # PIL decodes outside the interpreter lock
        decoded = bar(pool.map(read, paths), "images", len(paths))
        for index, (path, image) in enumerate(zip(paths, decoded, strict=True)):
            if image.shape != first.shape:
                raise AebenchError(disagreement(paths[0], first.shape, path, image.shape))
            images[index] = image
    return images


def disagreement(one: str, shape: tuple[int, ...], other: str, other_shape: tuple[int, ...]) -> str:
    """Two images of different shapes, and the parameter that makes them agree."""

    def words(c: int, h: int, w: int) -> str:
        return f"{w} x {h} {'grey' if c == 1 else 'colour'}"

    fixes = []
    if shape[1:] != other_shape[1:]:
        fixes.append(f"image_size={min(*shape[1:], *other_shape[1:])}")
    if shape[0] != other_shape[0]:
        fixes.append("channels=3")
    return (
        f"{other}: got {words(*other_shape)}, but {one} is {words(*shape)}; all must agree; "
        f"set {' and '.join(fixes)} in params.yaml (or: dvc exp run -S {' -S '.join(fixes)})"
    )
