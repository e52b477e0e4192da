"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST, downloaded once through torchvision."""

from functools import partial

import numpy as np

from aebench import hookimpl

CLASSES = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
}


def load(name, root):
    from torchvision import datasets  # 1 s more than torch: only where it downloads

    folder = root / "downloads"
    loaded = {}
    for split, train in (("train", True), ("test", False)):
        data = getattr(datasets, CLASSES[name])(folder, train=train, download=True)
        images = np.asarray(data.data)
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        loaded[split] = (images, np.asarray(data.targets, np.int64))
    return loaded | {"classes": list(data.classes)}


@hookimpl
def register_datasets(register):
    for name in CLASSES:
        register(name, partial(load, name))
