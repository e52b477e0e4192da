"""Keys tell the truth: they move when a result could, and stay when none could."""

import ast
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from aebench.fingerprint import (
    COMPUTING,
    PACKAGE,
    UNCOUNTED,
    Modules,
    imports,
    module_fingerprint,
    module_hashes,
    normalised,
    stage_fingerprint,
)

# Ways to code and files that no import statement shows.
HIDDEN = {"__import__", "import_module", "exec_module", "exec", "eval", "runpy", "sys.modules"}
HIDDEN |= {"__file__", "pkgutil", "importlib.resources"}


def faults(module, package=PACKAGE, uncounted=UNCOUNTED):
    """What the fingerprint of `module` would miss, one line each."""
    modules = Modules(package, uncounted)
    found = []
    for name in sorted(modules.graph(module)):
        found += import_faults(name, modules) + hidden_faults(name, modules)
    try:
        module_fingerprint(module, package, uncounted)
    except ValueError as error:
        found.append(str(error))
    return found


def import_faults(module, modules):
    found = []
    names = module.split(".")
    for package in [".".join(names[:end]) for end in range(2, len(names) + 1)]:
        file = modules.file(package)
        if file and file.name == "__init__.py" and not is_empty(file):
            found.append(f"{package}: code in __init__; move it to a module")
    for source, name, local in modules.imported(module):
        file, counted = modules.file(source), modules.counts(source)
        if "." in local:
            found.append(f"{module}: import {local}: binds {modules.package.name}; add `as`")
        if name == "*":
            found.append(f"{module}: from {source} import *: name what is imported")
        # Anything that was ever imported from a package hangs on it as an attribute.
        if file and file.name == "__init__.py" and (counted or file.parent == modules.package):
            found.append(f"{module}: imports the package {source}; import from its modules")
        elif file and not counted and name in {i.local for i in modules.imported(source)}:
            found.append(f"{module}: {source} does not define {name}; import it from where it is")
    return found


def is_empty(file):
    return "".join(map(str, normalised(file.read_bytes()))) == "Module()"


def hidden_faults(module, modules):
    words = set()
    for node in ast.walk(ast.parse(modules.file(module).read_bytes())):
        match node:
            case ast.Name(name):
                words.add(name)
            case ast.Attribute(_, name):  # nn.Module.eval is none
                words |= {ast.unparse(node)} | {name} - {"exec", "eval"}
            case ast.Import() | ast.ImportFrom():
                for source, name, _ in imports(node, ()):
                    words |= {source, name, f"{source}.{name}"}
    return [f"{module}: {word}: cannot be followed" for word in sorted(HIDDEN & words)]


def rename(package, names):
    """Rename modules as a person with a formatter would; comments and layout change as well."""
    for file in package.rglob("*.py"):
        tree = Renamer(names).visit(ast.parse(file.read_bytes()))
        file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    for old, new in names.items():
        *folders, name = new.split(".")[1:]
        (target := package.joinpath(*folders)).mkdir(exist_ok=True)
        (target / "__init__.py").touch()
        package.joinpath(*old.split(".")[1:]).with_suffix(".py").rename(target / f"{name}.py")
    ruff = [sys.executable, "-m", "ruff", "check", "-q", "--isolated", "--select=I", "--fix"]
    subprocess.run([*ruff, f"--config=src=['{package.parent}']", package], check=True)


class Renamer(ast.NodeTransformer):
    """Changes the names in import statements, one name a statement."""

    def __init__(self, names):
        self.names = names

    def visit_Import(self, node):
        for alias in node.names:
            alias.name = self.names.get(alias.name, alias.name)
        return node

    def visit_ImportFrom(self, node):
        return [self.changed(node, alias) for alias in node.names]

    def changed(self, node, alias):
        if new := self.names.get(f"{node.module}.{alias.name}"):  # a whole module
            parent, _, leaf = new.rpartition(".")
            return ast.ImportFrom(parent, [ast.alias(leaf, alias.asname or alias.name)], 0)
        module = node.module if node.level else self.names.get(node.module, node.module)
        return ast.ImportFrom(module, [alias], node.level)


def replace(package, path, old, new):
    """Edit one file; where nothing is to be replaced, make it."""
    file = package / path
    if old:
        text = file.read_text()
        assert text.count(old) == 1, f"{path}: {old!r} stands there {text.count(old)} times"
        file.write_text(text.replace(old, new))
    else:
        assert not file.exists()
        file.write_text(new)


# Part 1: a package made up for it.

FILES = {
    "__init__.py": '"""Gathers names."""\n\nfrom pack.errors import AebenchError as AebenchError\n',
    "errors.py": """
class AebenchError(Exception): ...
class Failure(Exception): ...
def nearest(word): return f"did you mean {word}?"
""",
    "clock.py": "def now(): return 0\ndef later(): return 1\n",
    "records/__init__.py": '"""Records."""\n',
    "records/train.py": "LOSS = 'loss'\n",
    "models/__init__.py": '"""Models."""\n',
    "models/training.py": '''"""Trains."""

import math
from typing import TYPE_CHECKING

import numpy as np

from pack.clock import now
from pack.errors import AebenchError, Failure, nearest
from pack.evaluation import vote
from pack.models.base import Base, registered
from pack.models.steps import cosine as schedule
from pack.models.steps import linear
from pack.records.train import LOSS

if TYPE_CHECKING:
    from pack.models.shapes import Shape


@registered
class Trainer(Base):
    """Trains one model."""

    def trained(self, shape: "Shape", epochs: int = 3) -> dict:
        """The loss."""
        from pack.models.late import finish  # slow to import

        if epochs < 0:
            raise AebenchError(f"epochs: got {epochs}{nearest('1')}; allowed: 0 or more")
        try:
            loss = schedule(epochs) + linear(epochs)
        except KeyError as error:
            raise AebenchError("no such step", error) from error
        if math.isnan(loss):
            raise Failure("the loss is not finite")
        started = now()
        loss = np.abs(loss)
        loss = finish(loss - 1)
        return {LOSS: loss, "vote": vote.vote([loss]), "seconds": now() - started}
''',
    "models/base.py": """
def registered(cls):
    return cls


def measured(cls):
    return cls


class Base:
    def start(self):
        return 1
""",
    "models/steps.py": """
from .constants import RATE


def cosine(x):
    return RATE * x


def linear(x):
    return RATE + x
""",
    "models/constants.py": "RATE = 0.5\n",
    "models/late.py": "def finish(loss):\n    return loss * 2\n",
    "models/later.py": "def finish(loss):\n    return loss * 2 + 0\n",
    "models/shapes.py": "Shape = tuple[int, int, int]\n",
    "evaluation/__init__.py": "",
    "evaluation/vote.py": """
import pack.evaluation.ties as ties


def vote(x):
    return ties.first(x)
""",
    "evaluation/ties.py": "def first(x):\n    return x[0]\n",
    "report.py": "TITLE = 'report'\n",
}
CUT = {"pack": "", "pack.errors": "", "pack.clock": "", "pack.records": ""}
START = "pack.models.training"
TRAINING = "models/training.py"

HELD = {
    "comment": (TRAINING, "loss = np.abs(loss)", "loss = np.abs(loss)  # never below 0"),
    "layout": (TRAINING, "epochs: int = 3) ->", "epochs: int = 3,\n    ) ->"),
    "docstring of a class": (TRAINING, "Trains one model.", "Trains a model."),
    "docstring of a function": (TRAINING, '        """The loss."""\n', ""),
    "docstring of a package": ("models/__init__.py", "Models", "All models"),
    "text of an error": (TRAINING, "no such step", "unknown step"),
    "f-string of an error": (
        TRAINING,
        "{epochs}{nearest('1')}; allowed: 0",
        "{epochs + 0}; at least 0",
    ),
    "keyword of an error": (TRAINING, '"no such step", error', '"no such step", hint=schedule'),
    "one import made two": (
        TRAINING,
        "from pack.errors import AebenchError, Failure, nearest\n",
        "from pack.errors import nearest, Failure\nfrom pack.errors import AebenchError\n",
    ),
    "two imports made one": (
        TRAINING,
        "import cosine as schedule\nfrom pack.models.steps import linear\n",
        "import linear, cosine as schedule\n",
    ),
    "an import above those from outside": (
        TRAINING,
        "import numpy as np\n\nfrom pack.clock import now\n",
        "from pack.clock import now\nimport numpy as np\n",
    ),
    "relative import": (TRAINING, "from pack.models.base import", "from .base import"),
    "relative import of a module": (
        TRAINING,
        "from pack.evaluation import vote",
        "from ..evaluation import vote",
    ),
    "a whole module imported the other way": (
        TRAINING,
        "from pack.evaluation import vote",
        "import pack.evaluation.vote as vote",
    ),
    "content of an uncounted module": ("errors.py", "did you mean", "perhaps"),
    "content below an uncounted package": ("records/train.py", "'loss'", "'the loss'"),
    "the top-level package": ("__init__.py", "Gathers", "Exports"),
    "a new module": ("models/new.py", "", "from pack.models.training import Trainer\n"),
    "a module that is not imported": ("report.py", "'report'", "'Report'"),
}
MOVED = {
    "constant two imports away": ("models/constants.py", "0.5", "0.6"),
    "default": (TRAINING, "epochs: int = 3", "epochs: int = 4"),
    "decorator": (TRAINING, "@registered", "@measured"),
    "no decorator": (TRAINING, "@registered\n", ""),
    "method of a base class": ("models/base.py", "return 1", "return 2"),
    "other name under the same alias": (TRAINING, "cosine as schedule", "linear as schedule"),
    "aliases swapped": (
        TRAINING,
        "import cosine as schedule\nfrom pack.models.steps import linear\n",
        "import linear as schedule, cosine as linear\n",
    ),
    "same name of another module": (
        TRAINING,
        "pack.models.late import",
        "pack.models.later import",
    ),
    "what an inner import brings": ("models/late.py", "* 2", "* 3"),
    "what only types need": ("models/shapes.py", "int, int, int", "int, int"),
    "what a whole module imports": ("evaluation/ties.py", "x[0]", "x[-1]"),
    "operator": (TRAINING, "schedule(epochs) + linear", "schedule(epochs) - linear"),
    "text of a failure": (TRAINING, "the loss is not finite", "the loss is infinite"),
    "class of an error": (TRAINING, 'AebenchError("no such', 'Failure("no such'),
    "import from outside": (TRAINING, "import numpy as np", "import scipy as np"),
    "order of imports from outside": (
        TRAINING,
        "import math\nfrom typing import TYPE_CHECKING\n",
        "from typing import TYPE_CHECKING\nimport math\n",
    ),
    "order of statements": (
        TRAINING,
        "loss = np.abs(loss)\n        loss = finish(loss - 1)",
        "loss = finish(loss - 1)\n        loss = np.abs(loss)",
    ),
    "order of rebinding imports": (
        TRAINING,
        "from pack.models.late import finish  # slow to import",
        "from pack.models.late import finish\n        from pack.models.later import finish",
    ),
    "other name of an uncounted module": (
        TRAINING,
        "clock import now",
        "clock import later as now",
    ),
    "a name that is nowhere": (TRAINING, "steps import linear", "gone import linear"),
    "a string that looks like a docstring": (TRAINING, "started = now()", 'started = "now"'),
    "a file that does not parse": ("models/constants.py", "RATE = 0.5", "RATE = 0.5 ("),
}


@pytest.fixture
def pack(tmp_path):
    for path, text in FILES.items():
        (tmp_path / "pack" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pack" / path).write_text(text)
    return tmp_path / "pack"


def pack_print(pack, start=START, uncounted=CUT):
    return module_fingerprint(start, pack, uncounted)


@pytest.mark.parametrize("edit", HELD.values(), ids=HELD)
def test_what_cannot_alter_a_result_moves_no_key(pack, edit):
    before = pack_print(pack)
    replace(pack, *edit)
    assert pack_print(pack) == before


@pytest.mark.parametrize("edit", MOVED.values(), ids=MOVED)
def test_what_can_alter_a_result_moves_the_key(pack, edit):
    before = pack_print(pack)
    replace(pack, *edit)
    assert pack_print(pack) != before
    (pack / edit[0]).write_text(FILES[edit[0]])  # within one process, under the same name
    assert pack_print(pack) == before


@pytest.mark.parametrize(
    "names",
    [
        {"pack.models.steps": "pack.models.a_schedule"},
        {"pack.models.base": "pack.models.deep.base", "pack.models.late": "pack.zz.slow"},
        {"pack.evaluation.vote": "pack.vote", "pack.evaluation.ties": "pack.models.a_tie"},
        {START: "pack.computing.trainer"},
        {"pack.errors": "pack.zz_faults", "pack.clock": "pack.models.a_clock"},
    ],
    ids=str,
)
def test_names_and_places_of_modules_move_no_key(pack, names):
    before = pack_print(pack)
    replace(pack, "models/steps.py", "from .constants", "from pack.models.constants")
    rename(pack, names)
    uncounted = {names.get(name, name): reason for name, reason in CUT.items()}
    assert pack_print(pack, names.get(START, START), uncounted) == before


def test_a_module_swapped_for_one_of_equal_names_moves_the_key(pack):
    (pack / "models/copy.py").write_text(FILES["models/steps.py"])
    before = pack_print(pack)
    replace(pack, TRAINING, "steps import linear", "copy import linear")
    assert pack_print(pack) == before  # equal content is an equal result
    replace(pack, "models/copy.py", "RATE + x", "RATE + 2 * x")
    assert pack_print(pack) != before


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (MOVED["constant two imports away"], {"pack.models.constants"}),
        (MOVED["other name under the same alias"], {START}),
        (MOVED["same name of another module"], {START, "pack.models.late", "pack.models.later"}),
        (HELD["text of an error"], set()),
    ],
)
def test_the_module_that_changed_is_named(pack, edit, changed):
    before = module_hashes(START, pack, CUT)
    assert set(before) == {
        START,
        "pack.evaluation.ties",
        "pack.evaluation.vote",
        *(f"pack.models.{name}" for name in ("base", "constants", "late", "shapes", "steps")),
    }
    replace(pack, *edit)
    after = module_hashes(START, pack, CUT)
    assert {name for name, _ in before.items() ^ after.items()} == changed


@pytest.mark.parametrize(
    ("path", "old", "new", "words"),
    [
        (TRAINING, "import math\n", "import math\nimport pack.report\n", "add `as`"),
        (TRAINING, "import linear", "import *", "name what is imported"),
        (
            TRAINING,
            "from pack.evaluation import vote",
            "import pack.evaluation as vote",
            "the package",
        ),
        (TRAINING, "from pack.evaluation import", "from pack import evaluation as", "the package"),
        (TRAINING, "from pack.errors import Aeb", "from pack import Aeb", "the package pack;"),
        (TRAINING, "np.abs(loss)", "__import__('pack.late')", "__import__"),
        (TRAINING, "np.abs(loss)", "eval('loss')", "eval"),
        (TRAINING, "np.abs(loss)", "importlib.import_module('pack.late')", "import_module"),
        (TRAINING, "import math", "from importlib import import_module as load", "import_module"),
        (TRAINING, "import math", "from importlib import resources", "importlib.resources"),
        (TRAINING, "np.abs(loss)", "open(__file__)", "__file__"),
        ("models/late.py", "def", "exec('1')\ndef", "pack.models.late: exec"),
        ("models/__init__.py", '"""Models."""', "RATE = 1", "code in __init__"),
        (
            "clock.py",
            "def now(): return 0",
            "from pack.report import now",
            "clock does not define now",
        ),
        ("models/constants.py", "RATE", "from pack.models.late import finish\nRATE", None),
        ("models/constants.py", "RATE", "from pack.models.steps import linear\nRATE", "a circle"),
        ("models/constants.py", "RATE", "from pack.models.constants import X\nRATE", "a circle"),
    ],
)
def test_what_a_key_would_miss_is_refused(pack, path, old, new, words):
    assert faults(START, pack, CUT) == []
    replace(pack, path, old, new)
    found = faults(START, pack, CUT)
    assert any(words in line for line in found) if words else found == []


def test_a_circle_ends_with_its_modules(pack):
    replace(pack, "models/constants.py", "RATE", "from pack.models.steps import linear\nRATE")
    with pytest.raises(ValueError, match=r"a circle of imports: pack\.models\.\w+ <- pack\.models"):
        pack_print(pack)


def test_a_missing_module_is_named(pack):
    with pytest.raises(ValueError, match=r"pack\.gone: no such module in .*pack"):
        pack_print(pack, "pack.gone")


# Part 2: aebench itself.

STARTS = [module for modules in COMPUTING.values() for module in modules]
MODELS = {"train", "closed form", "encode", "stress"}
ENCODING, SEARCHING = {"encode", "stress"}, {"codecs", "index", "knn", "stress"}
EDITS = {  # what: (path, text, its replacement, the keys that move)
    "text of an error": ("images.py", "not a whole image", "a corrupt image", set()),
    "f-string of an error": ("datasets.py", "{len(images)},)", "{len(labels)},)", set()),
    "wording of a hint": ("errors.py", "(did you mean {", "(perhaps {", set()),
    "message of load": ("api.py", "was trained with other settings", "is outdated", set()),
    "what provenance tells": ("provenance.py", "platform.machine()", "platform.node()", set()),
    "when a time is marked": ("timing.py", "CONTENDED = 0.05", "CONTENDED = 0.06", set()),
    "the schema": ("schema.py", 'ge=1, description="b', 'ge=2, description="b', {"report"}),
    "a new verb": ("commands/new.py", "", "from aebench.models.training import trained\n", set()),
    "a column's name": ("records/knn.py", 'f"accuracy_{', 'f"score_{', {"report"}),
    "words of progress": ("progress.py", ": loss {", ", loss {", set()),
    "rule of precision": ("models/execution.py", '"amx_bf16" in flags', "False", {"train"}),
    "which images are mapped": (
        "shown.py",
        "place * count // shown",
        "place",
        {"prepare", "encode", "report"},
    ),
    "number of worst images": (
        "shown.py",
        "WORST = 10",
        "WORST = 9",
        {"prepare", "encode", "report"},
    ),
    "what a page looks like": ("report/page.py", 'ASSETS_HASH = "', 'ASSETS_HASH = "0', {"report"}),
    "windows of SSIM": (
        "metrics.py",
        "WINDOWS = (11, 7)",
        "WINDOWS = (7,)",
        ENCODING | {"report"},
    ),
    "mean of a metric": ("evaluation/quality.py", "values.mean(", "values.max(", {"encode"}),
    "epochs that count": ("records/train.py", "epochs[1:] or epochs", "epochs", {"report"}),
    "a stage's print": ("stages/encode.py", "{run}: MSE", "{run}: test MSE", set()),
    "constant of the optimizer": (
        "models/optimizers.py",
        "MOMENTUM = 0.95",
        "MOMENTUM = 0.9",
        {"train"},
    ),
    "operator of the optimizer": (
        "models/optimizers.py",
        "factor @ gram @ factor",
        "factor @ gram + factor",
        {"train"},
    ),
    "swapped import": (
        "models/training.py",
        "    muon,\n",
        "    orthogonal as muon,\n",
        {"train"},
    ),
    "constant of the loop": ("models/training.py", "WARM_UP = 0.05", "WARM_UP = 0.1", {"train"}),
    "text of a failure": ("models/batches.py", "the loss is {", "the loss was {", {"train"}),
    "batches of a closed form": (  # the loop calls `fit`, too
        "models/closed_form.py",
        "FIT_BATCH = 1000",
        "FIT_BATCH = 500",
        {"closed form", "train"},
    ),
    "helper two imports away": ("models/weights.py", "contiguous()", "contiguous().cpu()", MODELS),
    "base class": (
        "models/autoencoder.py",
        "self.encoder = encoder",
        "self.encoder = decoder",
        MODELS,
    ),
    "what pixels become": ("models/autoencoder.py", "div_(255)", "div_(256)", MODELS),
    "counting": ("models/sizes.py", "counter.flops // 2", "counter.flops", ENCODING),
    "block of images": ("models/encoding.py", "BLOCK = 500", "BLOCK = 250", ENCODING),
    "decorator": (
        "models/encoding.py",
        "@torch.no_grad()\ndef write_codes",
        "@torch.inference_mode()\ndef write_codes",
        ENCODING,
    ),
    "levels of a rounded code": (
        "evaluation/quantise.py",
        "2**self.bits - 1",
        "2**self.bits",
        {"encode", "knn"},
    ),
    "floats of a byte": (
        "evaluation/product.py",
        "PAIR, BITS = 2",
        "PAIR, BITS = 4",
        {"encode", "knn"},
    ),
    "values of a discrete code": ("evaluation/discrete.py", "MOST = 4096", "MOST = 2", {"encode"}),
    "cap of PSNR": (
        "metrics.py",
        "PSNR_CAP = 100.0",
        "PSNR_CAP = 99.0",
        ENCODING | {"report"},
    ),
    "the vote": ("evaluation/vote.py", "np.argmax(votes", "np.argmin(votes", SEARCHING),
    "candidates of the search": (
        "evaluation/search.py",
        "EXTRA = 16",
        "EXTRA = 0",
        SEARCHING,
    ),
    "equal codes": ("evaluation/distinct.py", "block += 0.0", "block += 1.0", SEARCHING),
    "qualities of a codec": ("evaluation/codecs.py", "(0, 5, 20", "(0, 5, 25", {"codecs"}),
    "recall that is enough": ("evaluation/approximate.py", "= 0.999", "= 0.99", {"index"}),
    "directions dropped": (
        "evaluation/latent_space.py",
        "NEGLIGIBLE = 1e-6",
        "NEGLIGIBLE = 1e-5",
        {"knn", "stress"},
    ),
    "the MLP probe": ("evaluation/probe.py", "HIDDEN = 200", "HIDDEN = 100", {"knn"}),
    "the probe": ("evaluation/probe.py", "ITERATIONS = 1000", "ITERATIONS = 10", {"knn"}),
    "changed images": ("evaluation/stress.py", "NOISE = 0.1", "NOISE = 0.2", {"stress"}),
    "order of images": ("datasets.py", "((hashes, self.labels))", "((self.labels,))", {"prepare"}),
    "places of the codes": (
        "evaluation/code_map.py",
        "STEPS, FIRST_STEPS = 200",
        "STEPS, FIRST_STEPS = 300",
        {"encode"},
    ),
    "images in one picture": ("sprite.py", "LARGEST = 48", "LARGEST = 32", {"prepare", "report"}),
    "depth of grey": ("images.py", "values >> (bits", "values >> (1 + bits", {"prepare"}),
    "a study": ("report/studies.py", "ROWS = 60", "ROWS = 50", {"report"}),
}


@cache
def real_prints(package=PACKAGE):
    return {key: stage_fingerprint(key, package)[0] for key in COMPUTING}


@pytest.fixture
def copied(tmp_path):
    """A copy of aebench to edit."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "aebench", ignore=ignored))


@pytest.mark.parametrize("module", STARTS)
def test_nothing_computes_unseen(module):
    assert faults(module) == []


def test_the_uncounted_modules_exist():
    modules = Modules(PACKAGE, UNCOUNTED)
    assert [name for name in UNCOUNTED if not modules.file(name)] == []


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_moves_the_keys_of_what_it_can_alter(copied, edit):
    *edit, moved = edit
    replace(copied, *edit)
    after = real_prints(copied)
    assert {key for key, value in real_prints().items() if after[key] != value} == moved


def test_renaming_every_module_moves_no_key(copied):
    counted = {name for module in STARTS for name in module_hashes(module)}
    names = {name: f"aebench.moved.m{i}" for i, name in enumerate(sorted(counted))}
    rename(copied, names)
    for module in STARTS:
        assert module_fingerprint(names[module], copied) == module_fingerprint(module), module
