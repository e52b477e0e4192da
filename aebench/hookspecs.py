"""Every hook of aebench; the docstrings are the contract."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("aebench")
hookimpl = pluggy.HookimplMarker("aebench")


@hookspec
def register_models(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Call `register(name, build)` for each architecture.

    `build(shape, ...)` gets the image shape (C, H, W) and, by keyword, those of `latent` (floats
    per code), `depth` (layers in each half) and its own options (keywords with a default) that its
    signature names; only these enter the cache key. It returns `(encoder, decoder)`, or one
    `torch.nn.Module` with these two attributes:

    - `encoder`: images float32 (B, C, H, W) in [0, 1] -> codes float32 (B, latent); without
      `latent` in the signature as many floats as it likes;
    - `decoder`: codes -> images; None for an encoder alone, whose row has no MSE.

    The module may further have these, which say by their signature what they use:

    - `loss(images[, labels][, progress])`: trained on by the recipe instead of the mean squared
      error. Returns a scalar tensor, or a dict of them: "loss" is minimised, the others are drawn
      as curves. `labels` int64 (B,): the row says that it saw them. `progress`: 0.0 at the first
      step, 1.0 at the last.
    - `fit(batches[, labels])`: called once, on the CPU, with a re-iterable of all training images,
      float32 (B, C, H, W), in order, and their labels int64 (N,). Without `loss` or `optimize` it
      is all the training: register the class itself (`register("pca", PCA)`) and its runs do not
      depend on the `train` settings. With one it is the start of gradient training, also of a run
      with `epochs: 0`.
    - `optimize(batches[, labels])`, a generator: the model's own loop with its own optimizers, in
      place of training by `loss`. `for images in batches:` goes once through the batches of all
      epochs, `len(batches)` of them, shuffled, on the device; where it names `labels` (which are
      all of them), they are pairs `images, labels`. It yields what `loss` returns once for each
      batch, after its updates, with torch's modes as they were; parameters are changed in place.
      What follows the last batch runs, too. Not called with `epochs: 0`.
    - `couples_batch = True`: its loss is no mean over images, each by itself, as it compares those
      of a batch (a contrastive loss, statistics of the codes). Such a model is not trained by
      several `processes`, each of which sees a part of the batch; nor is one with `fit`, `optimize`
      or BatchNorm in training, or whose `loss` itself changes a buffer by the images it sees.
    - `note`: a str that the report prints with the row;
    - `baseline`: "pca" or "pixels", the reference that it is: the others are held against it,
      whatever it is called. Set it on the class, so that a run that failed has it, too;
    - `seedless = True`, of a class whose `fit` is all its training: the seed changes nothing. Of
      several seeds the first alone is computed; its weights are fitted with another seed, too, and
      have to be the same bits.

    What is in neither half (a critic, a head) is trained and not counted, unless a half computes
    with it.

    All state is in parameters and buffers of their final shapes: later stages build the model again
    and load them, and what it then computes must be equal, bit for bit. In eval mode the halves
    draw no random numbers and change nothing that they keep. They get copies of the images: to work
    in place is allowed. Weights are to be initialised with the global random generators of torch,
    NumPy or Python: they are seeded per run. The contract is checked on some training images,
    before training on a build of its own (so a model may take scales from the first batch it sees)
    and after it; `aebench/models/contract.py` has each check.

    The model may be moved to a GPU, with the channels of its maps last (`flatten` and `reshape`,
    not `view`), and `loss` run under bfloat16 autocast: what it creates goes to `images.device`,
    and what needs float32 is called on `.float()`.
    What a file registers is remembered until its source, or what is installed, changes.
    `build` does not train, download, print or read files. It refuses a combination with
    `raise aebench.Refused(reason)`.

    An option is not called as a key of params.yaml (`channels`, `train`). Helpers are imported as
    `from _helper import x` or `from ._helper import x`, and are part of the cache key. What the
    file or `build` changes of the process is undone: working folder, output, umask, signal
    handlers, root logger, torch's default dtype, threads and modes; at import random generators,
    too. Of the environment, variables that were there get their values back, and new ones go if
    they begin with AEBENCH_, DVC_, GIT_, OMP_, MKL_ and the like; what is added to sys.path stays,
    at its end.
    """


@hookspec
def register_datasets(register: Callable[[str, Callable[[Path], dict[str, Any]]], None]) -> None:
    """Call `register(name, load)` for each data set.

    `load(root)` gets the data root (a folder it may download into) and returns `{"train": (images,
    labels), "test": (images, labels), "classes": names}` with images uint8 (N, C, H, W), C 1 or 3,
    of 0 to 255, labels int64 (N,) that index `classes` (other integers are converted), and
    `classes` a list of different str, each with an image in both splits. Where params.yaml has a
    `holdout`, "test" is not looked at, and need not be there. Import what is heavy
    inside `load`. What it raises, and what breaks this contract, is one line of `aebench prepare`.
    """


@hookspec
def register_metrics(register: Callable[..., None]) -> None:
    """Call `register(name, measure, better="lower")` for each metric of reconstructions.

    `measure(images, reconstructions)` gets test images and what the decoder makes of their codes,
    float32 (B, C, H, W) in [0, 1] on the device that encodes, and returns one finite value for each
    image, (B,): a tensor, an array or a list. `better`: "lower" or "higher". An image's value does
    not depend on the images beside it.

    The name is the column of results.csv, `[a-z][a-z0-9_]*`; beside it stand interval, tie group
    and the gain over PCA. "mse", "psnr" and "ssim" are registered by this hook, too. What raises,
    or returns something else, leaves its column blank, and the row says why.

    `measure` gets copies, without gradients; random generators are seeded before each call. It is
    called once for each block of images, so what is heavy is loaded once and kept. It is part of
    the cache key of `encode`: a new metric trains nothing. In the file of a model it is part of
    that model's `train`, too: a file of its own is better.
    """
