"""Whatever runs while a stage computes stands in a module that its key covers, or in UNCOUNTED."""

import contextlib
import importlib
import inspect
import shutil
import sys
import threading
from collections import defaultdict
from operator import attrgetter
from pathlib import Path

import pytest
from conftest import ROOT, SMALL
from PIL import Image

from aebench import fingerprint
from aebench.fingerprint import (
    PACKAGE,
    UNCOUNTED,
    Modules,
    module_fingerprint,
    module_hashes,
    stage_fingerprint,
)
from aebench.workspace import Workspace

# The functions that compute. What they return is written down and not computed with.
COMPUTING = {
    "aebench.datasets": ["prepared"],
    "aebench.evaluation.near_duplicates": ["near_duplicates"],
    "aebench.sprite": ["sprite"],
    "aebench.models.training": ["trained"],
    "aebench.models.closed_form": ["fitted"],
    "aebench.models.encoding": ["encoded", "decoding", "reconstruct"],
    "aebench.evaluation.code_map": ["code_map"],
    "aebench.evaluation.codecs": ["measured"],
    "aebench.evaluation.discrete": ["code_bits"],
    "aebench.evaluation.product": ["product"],
    "aebench.evaluation.quality": ["mse", "mean"],
    "aebench.evaluation.quantise": ["affine", "narrowed"],
    "aebench.metrics": ["similarity"],
    "aebench.models.measuring": ["measured"],
    "aebench.evaluation.panel": ["evaluated"],
    "aebench.evaluation.stress": ["changed", "asked", "Space.accuracy", "Space.with_few"],
    "aebench.models.encoding_again": ["codes_of", "reconstructions"],
    "aebench.report.render": ["files"],
}
# Every built-in model, metric, backend and kind of row, over as little data as there is.
PARAMS = f"""\
{SMALL[: SMALL.index("runs:")]}\
runs:
  mlp:
    model: mlp
  combo:
    model: combo
  refused:
    model: combo
    depth: 1
  cnn:
    model: cnn
  cnn-latent4:
    model: cnn
    latent: 4
  cnn-untrained:
    model: cnn
    train:
      epochs: 0
  cosine:
    model: cnn
    knn:
      metric: cosine
      backend: sklearn
  pca:
    model: pca
    knn:
      metric: whitened-cosine
  pixels:
    model: pixels
"""


class Watch:
    """A tracer: for each computing module, the modules of aebench whose functions it calls.

    Of calls alone, where a profiler is also called for each function written in C. Code is known by
    its id, as its hash is made of all its names and constants again at each call.
    """

    def __init__(self, functions):
        self.codes = {}
        for module, names in functions.items():
            for name in names:
                function = attrgetter(name)(importlib.import_module(module))
                self.codes[inspect.unwrap(function).__code__] = module
        self.known = {}  # id -> the code, which keeps it alive; its module here; its computing one
        self.computing = []  # innermost last
        self.seen = defaultdict(set)

    def __call__(self, frame, event, _):
        code = frame.f_code
        if id(code) not in self.known:
            self.known[id(code)] = code, module_of(code), self.codes.get(code)
        _, module, computing = self.known[id(code)]
        if computing:
            self.computing.append(computing)
        if module:
            for one in self.computing:
                self.seen[one].add(module)
        if not computing:
            return None
        frame.f_trace_lines = False
        return self.within

    def within(self, frame, event, _):
        if event == "return":
            self.computing.pop()
        return self.within

    @contextlib.contextmanager
    def on(self):
        """In this thread and in those that start meanwhile, as pools do."""
        before = sys.gettrace(), threading.gettrace()
        threading.settrace(self)
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before[0])
            threading.settrace(before[1])


def module_of(code):
    """The module of aebench that it is of, or None."""
    file = Path(code.co_filename)
    # An import runs modules, which are covered as imports are.
    if code.co_name == "<module>":
        return None
    # A page's template runs, too: its content is in the module that holds its hash.
    if not file.is_relative_to(PACKAGE) or file.suffix != ".py":
        return None
    names = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Computing module -> the modules that ran under it, in all stages of all runs."""
    root = tmp_path_factory.mktemp("truth")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "plugins", root / "plugins", ignore=ignored)
    write_folder(root / "images/pets")
    watch = Watch(COMPUTING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEBENCH_DATA", str(root / "images"))
        for dataset in ("pets", "digits"):  # converted: from files and from a plug-in
            params = PARAMS.replace("digits", dataset).replace("size: null", "size: 16")
            prepare(root, params.replace("channels: null", "channels: 3"), watch)
        prepare(root, PARAMS, watch)
        compute(Workspace(root), watch)
    return watch.seen


def write_folder(folder):
    """A data set as files of two sizes."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for side in range(20, 40):
                Image.new("L", (side, 20), side).save(folder / split / label / f"{side}.png")


def prepare(root, params, watch):
    (root / "params.yaml").write_text(params)
    stage("plan")(Workspace(root))
    with watch.on():
        stage("prepare")(Workspace(root))


def compute(workspace, watch):
    runs = sorted(path.parent.name for path in workspace.plan.glob("*/train.json"))
    with watch.on():
        for name in ("train", "encode", "knn", "stress"):
            for run in runs:
                stage(name)(workspace, run, 0)
        stage("codecs")(workspace)
        stage("report")(workspace)


def stage(name):
    return getattr(importlib.import_module(f"aebench.stages.{name}"), name)


@pytest.mark.parametrize("module", COMPUTING)
def test_all_that_runs_is_covered_by_the_key(seen, module):
    modules = Modules(PACKAGE, UNCOUNTED)
    ran = {name for name in seen[module] if modules.counts(name)}
    assert module in ran, f"{module}:{COMPUTING[module]} was not called"
    keys = [key for key, modules in fingerprint.COMPUTING.items() if module in modules]
    assert ran <= {name for key in keys for name in stage_fingerprint(key)[1]}


def test_functions_in_threads_are_seen():
    """The search ranks in a pool: a tracer of one thread would miss it."""
    watch = Watch({})
    watch.computing.append("here")
    with watch.on():
        thread = threading.Thread(target=module_hashes, args=("aebench.errors",))
        thread.start()
        thread.join()
    assert watch.seen["here"] == {"aebench.fingerprint"}


def test_what_runs_elsewhere_is_not_seen():
    watch = Watch({"aebench.fingerprint": ["module_fingerprint"]})
    with watch.on():
        module_hashes("aebench.errors")
        assert not watch.seen
        module_fingerprint("aebench.errors")
    assert watch.seen == {"aebench.fingerprint": {"aebench.fingerprint"}}
