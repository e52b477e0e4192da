"""Image files -> uint8 arrays, by one rule for each kind of pixels.

Transparent pixels are laid over white. Grey of 16 bits (or 32 with such values) is scaled by the
8, 10, 12, 14 or 16 bits that the largest value of all the files takes. Floats, values beyond 16
bits and 16-bit colour of 14 bits or fewer are refused. Of several frames the first is taken.

Memory does not grow with the number of images, nor with that of the cores: see `Room`.
"""

import contextlib
import io
import os
import re
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aebench.errors import AebenchError, is_machine_failure
from aebench.folders import printable
from aebench.progress import bar

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

BITS = (8, 10, 12, 14, 16)  # of sensors and file formats
SMALLEST = 8  # pixels a side: the built-in architectures start there
LFS = b"version https://git-lfs"
AS_8_BITS = "save it with 8 bits a channel"
AHEAD = 2**25  # bytes of images that were made and are still to be used
# Of each image: what of it the decoder gave, and no pixels.
FACTS = [("transparent", "?"), ("frames", "?"), ("grey", "i4"), ("colour", "i2")]


class Room:
    """So many bytes, for whom threads wait; what is larger than all of it gets it alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Wait for the bytes, and give them back at the end."""
        wanted = min(wanted, self._size)
        with self._changed:
            self._changed.wait_for(lambda: wanted <= self._free)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


# Who holds a file waits for room to decode it, never the other way round.
FILES, PIXELS = Room(2**25), Room(2**27)  # two photographs of 16 megapixels at once


class Decoded(NamedTuple):
    """An upright image of mode L or RGB, and what its file was like."""

    image: "Image"
    transparent: bool = False
    frames: bool = False  # whether there are more
    grey: int = -1  # the largest value of 16-bit grey; -1: of another kind
    colour: int = -1  # the largest upper byte of 16-bit colour


def decode(path: str, held: contextlib.ExitStack, bits: int = 16) -> Decoded:
    """The first frame. `held`: gets the room that it takes; `bits`: of grey values in 16-bit files.

    AebenchError for a file that is no whole image, or of pixels that are refused.
    """
    from PIL import Image, UnidentifiedImageError

    content, name = read_bytes(path, held), printable(path)
    try:
        return opened(content, held, bits)
    except MemoryError:
        raise
    except AebenchError as error:
        raise AebenchError(f"{name}: {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise AebenchError(f"{name}: too large ({error}); scale it down") from None
    except UnidentifiedImageError:
        if content.startswith(LFS):
            raise AebenchError(
                f"{name}: a pointer of Git LFS, not the image; run `git lfs pull` there"
            ) from None
        raise AebenchError(
            f"{name}: no image that Pillow can read: it begins with {content[:24]!r}; replace or "
            "remove it"
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds
        if is_machine_failure(error):
            raise
        raise AebenchError(
            f"{name}: not a whole image ({' '.join(str(error).split())}); replace or remove it"
        ) from None


def read_bytes(path: str, held: contextlib.ExitStack) -> bytes:
    """The content of the file. AebenchError where it is the file's fault, not the disk's."""
    try:
        with open(path, "rb") as file:
            held.enter_context(FILES.taken(os.fstat(file.fileno()).st_size))
            return file.read()
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise AebenchError(
            f"{printable(path)}: not readable ({error.strerror}); mend or remove it"
        ) from None


def opened(content: bytes, held: contextlib.ExitStack, bits: int) -> Decoded:
    """See `decode`. Pillow's own errors; AebenchError, without the path, for what is refused."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        # Of 16-bit colour Pillow keeps the upper bytes, and says so here alone.
        deep = re.search(r"'\w+;16[BLN]'", str(image.tile))
        # Which Pillow turns to black for 8 bits alone.
        negative = image.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
        # A second frame of a camera's MPO is a preview.
        frames = image.format != "MPO" and getattr(image, "is_animated", False)
        plain = image.mode in ("L", "RGB") and not deep and "transparency" not in image.info
        copies = (2 if "exif" in image.info else 1) if plain else 3
        held.enter_context(PIXELS.taken(copies * 4 * image.width * image.height))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    if deep and "transparency" in image.info:  # of which Pillow compares 8 bits
        raise AebenchError(f"16 bits with one value as transparent; {AS_8_BITS}")
    if image.mode.startswith(("I", "F")):
        if negative:
            raise AebenchError(f"white is 0 in it (TIFF's MinIsWhite), in 16 bits; {AS_8_BITS}")
        grey, largest = grey_of_16_bits(image, bits)
        return Decoded(grey, frames=frames, grey=largest)
    is_grey = image.mode in ("1", "L", "LA") or (deep is not None and "'LA;" in deep[0])
    mode = "L" if is_grey else "RGB"
    upper = colour_maximum(image) if deep else -1
    transparent = image.has_transparency_data
    if transparent:
        image = in_mode(image, "RGBA")
        transparent = image.getextrema()[3][0] < 255  # type: ignore[index]  # of four bands
    image = over_white(image, mode) if transparent else in_mode(image, mode)
    return Decoded(image, transparent, frames, colour=upper)


def in_mode(image: "Image", mode: str) -> "Image":
    """The image in that mode of Pillow's; itself, where `convert` would copy it."""
    return image if image.mode == mode else image.convert(mode)


def over_white(image: "Image", mode: str) -> "Image":
    """The RGBA image laid over white, in the mode L or RGB, some rows at a time."""
    from PIL import Image

    laid = Image.new(mode, image.size)
    for top in range(0, image.height, 64):
        rows = image.crop((0, top, image.width, min(top + 64, image.height)))
        rows = Image.alpha_composite(Image.new("RGBA", rows.size, "white"), rows)
        laid.paste(rows.convert(mode), (0, top))
    return laid


def grey_of_16_bits(image: "Image", bits: int) -> tuple["Image", int]:
    """The image as 8 bits, and its largest value. AebenchError for other values than 0 to 65535."""
    from PIL import Image

    values = pixels(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        raise AebenchError(
            f"pixels are floats, {low:g} to {high:g}, whose white is not known; allowed: integers "
            f"of 8 or 16 bits; {AS_8_BITS}"
        )
    if low < 0 or high > 65535:
        raise AebenchError(f"pixels are {low} to {high}; allowed: 0 to 65535; {AS_8_BITS}")
    return Image.fromarray((values >> (bits - 8)).clip(0, 255).astype("uint8")), int(high)


def colour_maximum(image: "Image") -> int:
    """The largest value of the bands but alpha."""
    return int(pixels(in_mode(image, "RGB")).max())


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
        image = in_mode(image, "L" if channels == 1 else "RGB")
    array = pixels(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def pixels(image: "Image") -> Any:
    """The image as an array (H, W) or (H, W, 3)."""
    import numpy as np

    return np.asarray(image)


def read_each(
    paths: Sequence[str],
    image_size: int | None,
    channels: int | None,
    put: "Callable[[int, np.ndarray], None]",
) -> list[str]:
    """Give each image, uint8 (C, H, W), and its place among the paths to `put`, in their order.

    At the end some come again: grey of 16 bits, of which other bits are known to count only then.
    The result: what rules were applied to some, a phrase each. AebenchError for a file that cannot
    be read as an image, or where the shapes disagree: that of the first such path.
    """
    import numpy as np
    from PIL import Image, PngImagePlugin

    # Colour profiles of a printer take 2 MB.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 64 * 2**20
    bits = BITS[-1]

    def read(path: str) -> "tuple[np.ndarray, tuple[Any, ...]]":
        with contextlib.ExitStack() as held:
            image, *facts = decode(path, held, bits)
            check_length(path, image, image_size)
            array = convert(image, image_size, channels)
            del image  # before its room is given to another
        return array, tuple(facts)

    facts = np.empty(len(paths), FACTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        first = read(paths[0])[0]
        decoded = bar(ahead(read, paths, first.nbytes), "images", len(paths))
        for place, (image, own) in enumerate(decoded):
            if image.shape != first.shape:
                raise AebenchError(disagreement(paths[0], first.shape, paths[place], image.shape))
            facts[place] = own
            put(place, image)
        check_colour(paths, facts)
        grey = np.flatnonzero(facts["grey"] >= 0)
        if len(grey):
            largest = facts["grey"].max()
            bits = next(number for number in BITS if largest < 2**number)
            if bits < BITS[-1]:  # known only now
                again = ahead(read, [paths[place] for place in grey.tolist()], first.nbytes)
                decoded = zip(grey.tolist(), again, strict=True)
                for place, (image, _) in bar(decoded, "images", len(grey)):
                    put(place, image)
    return phrases(paths, facts, bits)


def ahead(work: Callable[[Any], Any], items: Iterable[Any], size: int) -> Iterator[Any]:
    """The results of `work` in order, about `size` bytes each, made by all cores.

    Threads: Pillow decodes and scales outside the interpreter's lock. Photographs take half the
    time on two cores; of 32 x 32 pixels, where Python takes most of it, processes would.
    """
    most = max(1, min(AHEAD // size, 256))
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor() as pool:
        try:
            for item in items:
                if len(waiting) == most:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def check_length(path: str, image: "Image", image_size: int | None) -> None:
    """AebenchError for an image so much longer than wide that scaling it would fill the memory."""
    from PIL import Image

    short, long = sorted(image.size)
    scaled = (image_size or short) ** 2 * long // short
    if Image.MAX_IMAGE_PIXELS and scaled > Image.MAX_IMAGE_PIXELS:
        raise AebenchError(
            f"{printable(path)}: {image.width} x {image.height} pixels are {scaled:,} where the "
            f"shorter side is image_size {image_size}; cut it, or lower image_size"
        )


def check_colour(paths: Sequence[str], facts: "np.ndarray") -> None:
    """AebenchError where 16-bit colour uses so few bits that its upper bytes are nearly black."""
    largest = int(facts["colour"].max())
    if 0 <= largest < 64:
        path = paths[int(facts["colour"].argmax())]
        raise AebenchError(
            f"{printable(path)}: 16-bit colour without a value above {largest * 256 + 255}; of it "
            f"Pillow reads the upper 8 bits, almost black; {AS_8_BITS}"
        )


def phrases(paths: Sequence[str], facts: "np.ndarray", bits: int) -> list[str]:
    """`3 images with transparency laid over white (a.png)`, for each rule that was applied."""
    rules = {
        "with transparency laid over white": facts["transparent"],
        "of several frames, the first taken": facts["frames"],
        f"of 16-bit grey read as {bits} bits": (facts["grey"] >= 0) & (bits < 16),
    }
    found = []
    for rule, which in rules.items():
        if count := int(which.sum()):
            name = printable(Path(paths[int(which.argmax())]).name)
            one, more = f"1 image {rule} ({name})", f"{count:,} images {rule} ({name}, ...)"
            found.append(one if count == 1 else more)
    return found


def disagreement(one: str, shape: tuple[int, ...], other: str, other_shape: tuple[int, ...]) -> str:
    """Two images of different shapes, and the parameter that makes them agree."""

    def words(c: int, h: int, w: int) -> str:
        return f"{w} x {h} {'grey' if c == 1 else 'colour'}"

    fixes = []
    if shape[1:] != other_shape[1:]:
        fixes.append(f"image_size={max(SMALLEST, min(*shape[1:], *other_shape[1:]))}")
    if shape[0] != other_shape[0]:
        fixes.append("channels=3")
    return (
        f"{printable(other)}: got {words(*other_shape)}, but {printable(one)} is {words(*shape)}; "
        f"all must agree; set {' and '.join(fixes)} in params.yaml "
        f"(or: dvc exp run -S {' -S '.join(fixes)})"
    )
