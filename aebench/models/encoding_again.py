"""Encode changed images, and reconstruct some of the test images, as `encode` does."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, as_floats, expect
from aebench.models.device import device
from aebench.models.encoding import in_blocks


@torch.no_grad()
def codes_of(
    autoencoder: Autoencoder, images: Iterable[np.ndarray], floats: int
) -> Iterator[np.ndarray]:
    """Codes float32 (n, floats) of each block uint8 (n, C, H, W). Failure where they are none."""
    for block in images:
        batch = as_floats(torch.from_numpy(block).to(device()))
        codes = expect(autoencoder.encoder(batch), "encoder", (len(batch), floats)).cpu()
        if not codes.isfinite().all():
            raise Failure("the codes are not finite")
        yield codes.numpy()


@torch.no_grad()
def reconstructions(
    autoencoder: Autoencoder, codes: Tensor, shape: tuple[int, ...]
) -> Iterator[np.ndarray]:
    """What the decoder makes of codes (see `Encoded`): float32 (n, C, H, W), block by block.

    Failure without a decoder, and for what is not finite.
    """
    if autoencoder.decoder is None:
        raise Failure("there is no decoder")
    for given in in_blocks(codes):
        batch = torch.from_numpy(given).to(device())
        decoded = expect(autoencoder.decoder(batch), "decoder", (len(batch), *shape)).cpu()
        if not decoded.isfinite().all():
            raise Failure("the reconstructions are not finite")
        yield decoded.numpy()
