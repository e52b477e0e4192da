"""Write a plug-in to begin with, add its run to params.yaml and check it."""

import argparse
import keyword
import os
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, CollectionNode, MappingNode, Node, YAMLError

from aebench.commands.check_plugin import check_plugin
from aebench.errors import AebenchError
from aebench.outs import Outs
from aebench.params import NAME, name_fault, read_yaml
from aebench.plugins import load_plugins
from aebench.workspace import Workspace

SOURCE = '''\
"""Say here what MODEL is."""

import math

from torch import nn

from aebench import hookimpl


def build(shape, latent, depth, width=256):
    """(encoder, decoder) for images of `shape` (C, H, W), any number of channels and pixels.

    Name what you use of `latent` (floats per code) and `depth` (layers in each half), and options
    of your own, with a default: `width: 64` in the run sets this one.
    """
    pixels = math.prod(shape)
    widths = [pixels, *[width] * (depth - 1), latent]
    # encoder: float32 (B, C, H, W) in [0, 1] -> codes float32 (B, latent); decoder: codes -> images
    encoder = nn.Sequential(nn.Flatten(), *layers(widths))
    decoder = nn.Sequential(*layers(widths[::-1]), nn.Sigmoid(), nn.Unflatten(1, shape))
    return encoder, decoder


def layers(widths):
    """Change this: convolutions, attention, whatever keeps the shapes at both ends."""
    linear = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return [part for layer in linear for part in (layer, nn.GELU())][:-1]


# Instead of a pair, `build` may return (or be) an nn.Module with .encoder, .decoder and, as needed,
# - loss(self, images): trained on in place of the mean squared error
# - fit(self, batches): a closed form or, beside a loss, the start of training
# - optimize(self, batches): a generator, your own loop with your own optimizers
# - decoder = None: an encoder alone
# docs/plugins.md shows one of each. What it does not want, `build` refuses: raise Refused(reason).


@hookimpl
def register_models(register):
    register("MODEL", build)
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it is to be called."""
    words = "of the model and of its run; the file is plugins/NAME.py, with _ for -"
    parser.add_argument("name", metavar="NAME", help=words)


def new_plugin(workspace: Workspace, name: str) -> None:
    """Write plugins/NAME.py and the run NAME of it, both or neither, and check the plug-in.

    AebenchError, with nothing written, for a name that is no run's or no Python module's, or is
    taken, and for a params.yaml that the run cannot be added to.
    """
    if not os.path.lexists(workspace.params):
        raise AebenchError(f"{NAME}: not there; make this folder a workspace: aebench init")
    content = read_yaml(workspace.params)
    file = file_name(name)
    check_free(workspace, content, name, file)
    params = with_run(workspace.params, content, name)
    path = workspace.plugins / f"{file}.py"
    with Outs() as outs:
        outs.write(path, SOURCE.replace("MODEL", name).encode())
        outs.write(workspace.params.resolve(), params)  # behind a link: the file itself
    print(f"wrote {path}\nadded to {workspace.params}: the run {name}\n", flush=True)
    check_plugin(workspace, str(path), run=False)
    print(f"next: dvc repro (after a change: aebench check-plugin {name})")


def file_name(name: str) -> str:
    """The name of the plug-in's module. AebenchError for what cannot be one, or no run's name."""
    file = name.replace("-", "_")
    if fault := name_fault(name):
        fault = fault.removeprefix(f"{NAME}: runs.")  # where it does not stand
    elif not file.isidentifier() or keyword.iskeyword(file):
        fault = (
            f"{name}: plugins/{file}.py could not be imported in Python; allowed: a name that "
            "begins with a letter and is no keyword"
        )
    else:
        return file
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    better = plain if plain != name and plain[:1].isalpha() else f"model-{plain}"
    raise AebenchError(fault if name_fault(better) else f"{fault}; as {better}")


def check_free(workspace: Workspace, content: dict[Any, Any], name: str, file: str) -> None:
    """AebenchError for a name that a file, a folder, a run or a model has."""
    taken = "; nothing is overwritten, choose another name"
    for place in (workspace.plugins / f"{file}.py", workspace.plugins / file):
        if os.path.lexists(place):
            raise AebenchError(f"{place}: is there already{taken}")
    runs = content.get("runs")
    if isinstance(runs, dict) and name in runs:
        raise AebenchError(f"{NAME}: runs.{name}: is there already{taken}")
    if model := load_plugins(workspace, remembering=False).models.get(name):
        raise AebenchError(f"{model.plugin.name}: registers a model {name!r} already{taken}")


def with_run(path: Path, content: dict[Any, Any], name: str) -> bytes:
    """The file with the run as the last one of `runs`, and every other byte as it is.

    `content`: what it holds. AebenchError where lines cannot be put there. (A round trip through
    ruamel.yaml does not keep the bytes: `null` becomes nothing, lists lose their indent.)
    """
    # Not by read_text, which makes every end of a line a \n.
    lines = path.read_bytes().decode().splitlines(keepends=True)
    refusal = AebenchError(
        f"{NAME}: runs: the run {name} cannot be added without a change of what is there; allowed: "
        "runs in lines of their own (`mlp:`, below it `  model: mlp`), not in braces; write them so"
    )
    try:
        runs = value_of(YAML(typ="safe", pure=True).compose("".join(lines)), "runs")
        if not isinstance(runs, MappingNode) or runs.flow_style:
            raise refusal
        first, about = runs.value[0]
        column = first.start_mark.column
        inner = about.value[0][0].start_mark.column if is_block(about) else column + 2
        end = last_leaf(runs).end_mark
        place = end.line + (end.column > 0)  # that of a block of text is in the next line
        newline = "\r\n" if lines[0].endswith("\r\n") else "\n"
        added = [f"{' ' * column}{name}:{newline}", f"{' ' * inner}model: {name}{newline}"]
        if not lines[place - 1].endswith("\n"):
            added.insert(0, newline)
        found = "".join([*lines[:place], *added, *lines[place:]])
        again = YAML(typ="safe", pure=True).load(found)
    except (YAMLError, IndexError):
        raise refusal from None
    expected = content | {"runs": content["runs"] | {name: {"model": name}}}
    if again != expected:
        raise refusal
    return found.encode()


def value_of(node: Node, key: str) -> Node | None:
    """The value of a key of a mapping."""
    return next((value for k, value in node.value if k.value == key), None)


def is_block(node: Node) -> bool:
    """Whether it is a mapping or a list in lines of their own, and not an empty one."""
    return isinstance(node, CollectionNode) and bool(node.value) and not node.flow_style


def last_leaf(node: Node) -> Node:
    """What ends the node's text: the node itself ends where the next thing begins."""
    while is_block(node):
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node
