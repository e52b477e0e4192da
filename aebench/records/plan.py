"""What `plan` writes: for each stage of each run what alters its result, and nothing else.

These files are DVC's cache keys: a byte that changes runs a stage again. So a key of the recipe
stands in them only where it is not at a neutral default (`Recipe`), and `format` stays.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, field_serializer, model_serializer

from aebench.records.record import Part, Record
from aebench.schema import Knn, Recipe, Section
from aebench.workspace import INDEX, STRESS, sha256


class Untrained(Section):
    """The recipe of a network that stays as it was initialised: nothing else matters to it."""

    epochs: Literal[0] = 0


class Fingerprints(Part):
    """Hashes of code: aebench's modules that compute, and the plug-in's own source."""

    aebench: str
    plugin: str | None = None

    @property
    def known(self) -> dict[str, str]:
        """Those there are."""
        return self.model_dump(exclude_none=True)


def splits_of(holdout: float | None) -> tuple[str, ...]:
    """What is read of a data set: with a holdout its training images alone."""
    return ("train",) if holdout else ("train", "test")


class DataPlan(Record):
    """plan/data.json: where the images come from and how they are converted."""

    dataset: str
    image_size: int | None
    channels: Literal[1, 3] | None
    holdout: float | None = None  # of the training images, in place of the test images
    source: str  # `folder`, or the plug-in's name
    # SHA-256 over the names, sizes and times of a folder's files, of train alone with a holdout.
    files: str | None = None
    num_train: int | None = None  # of a folder; not known with a holdout
    num_test: int | None = None
    fingerprints: Fingerprints

    @model_serializer(mode="wrap")
    def without_no_holdout(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The plan, without `holdout` where it is of the test images."""
        found = handler(self)
        return found if self.holdout else {k: v for k, v in found.items() if k != "holdout"}

    @property
    def splits(self) -> tuple[str, ...]:
        """What is read of the data set."""
        return splits_of(self.holdout)


class ModelPlan(Record):
    """Which model is built, and from what."""

    model: str
    plugin: str
    build: dict[str, Any]  # keyword -> value
    fingerprints: Fingerprints


class WeightsFile(Part):
    """A state dict that training begins with."""

    file: str  # its path in the workspace
    hash: str  # SHA-256 of its bytes


class TrainPlan(ModelPlan):
    """plan/<run>/train.json. `train` None: a closed form, which sees no recipe."""

    train: Recipe | Untrained | None
    weights: WeightsFile | None = None
    only_seed: int | None = None  # of several, where the seed changes nothing: the first

    @model_serializer(mode="wrap")
    def without_what_is_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The plan, without `weights` where it begins with none, and without no `only_seed`."""
        neutral = ("weights", "only_seed")
        return {k: v for k, v in handler(self).items() if v is not None or k not in neutral}

    @field_serializer("train")
    def without_defaults(self, train: Recipe | Untrained | None) -> dict[str, Any] | None:
        """The recipe, without keys at their neutral defaults."""
        if isinstance(train, Recipe):
            return train.model_dump(exclude_defaults=True)
        return train and train.model_dump()


Better = Literal["lower", "higher"]


class MetricPlan(Part):
    """A metric that a plug-in registers, and the hash of the plug-in's source."""

    plugin: str
    better: Better
    fingerprint: str


class EncodePlan(ModelPlan):
    """plan/<run>/encode.json."""

    first_seed: int | None = None  # whose codes are mapped by t-SNE, too; None: of none
    metrics: dict[str, MetricPlan] = {}  # of plug-ins; the built-in ones are aebench's code

    @model_serializer(mode="wrap")
    def without_no_metrics(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The plan, without `metrics` where no plug-in registers one."""
        found = handler(self)
        return found if self.metrics else {k: v for k, v in found.items() if k != "metrics"}


class KnnPlan(Record):
    """plan/<run>/knn.json."""

    knn: Knn
    fingerprints: Fingerprints

    @field_serializer("knn")
    def without_defaults(self, knn: Knn) -> dict[str, Any]:
        """The search, without keys at their neutral defaults."""
        return knn.model_dump(exclude_defaults=True)


class StressPlan(ModelPlan):
    """plan/<run>/stress.json: of the first seed."""

    knn: Knn

    @field_serializer("knn")
    def without_defaults(self, knn: Knn) -> dict[str, Any]:
        """The search, without keys at their neutral defaults."""
        return knn.model_dump(exclude_defaults=True)


class IndexPlan(Record):
    """plan/<run>/index-<name>.json: an approximate index of the codes, searched by L2."""

    index: str  # FAISS's factory string
    k: int
    fingerprints: Fingerprints


class CodecsPlan(Record):
    """plan/codecs.json: JPEG and WebP on the same images, searched by L2 for this k."""

    k: int
    fingerprints: Fingerprints


class ReportPlan(Record):
    """plan/report.json: what is shown, in the order of params.yaml, and by which plans."""

    FORMAT: ClassVar[int] = 2

    dataset: str
    latent: int  # the defaults of params.yaml
    depth: int
    knn: Knn
    runs: list[str]
    seeds: list[int]
    data: str  # SHA-256 of plan/data.json
    expected: dict[str, dict[str, str]]  # run -> stage -> SHA-256 of its plan file
    codecs: str = ""  # SHA-256 of plan/codecs.json; empty: of before there was one
    search: dict[str, str] = {}  # approximate indexes, of the first seed's codes
    trials: dict[str, str] = {}  # run -> how its settings were chosen, in the user's words
    seedless: list[str] = []  # of several seeds the first alone is computed of these runs
    fingerprints: Fingerprints

    @model_serializer(mode="wrap")
    def without_what_is_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The plan, without `codecs`, `search`, `trials` and `seedless` where there are none."""
        neutral = "codecs", "search", "trials", "seedless"
        return {k: v for k, v in handler(self).items() if v or k not in neutral}

    def seeds_of(self, run: str) -> list[int]:
        """Those that are computed of the run."""
        return self.seeds[:1] if run in self.seedless else self.seeds

    def expected_of(self, run: str, seed: int) -> dict[str, str]:
        """Stage -> SHA-256 of its plan file; of the first seed alone `stress`, `index-<name>`."""
        found = self.expected.get(run, {})
        is_first = self.seeds[:1] == [seed]
        return {k: v for k, v in found.items() if is_first or not k.startswith((STRESS, INDEX))}

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int, path: Path) -> dict[str, Any]:
        """Format 1 did not say which results are those of the plan."""
        return content | {"data": "", "expected": {}}


class Sources(Record):
    """plan/sources.json: what each fingerprint is made of, to tell later what has changed.

    `code`: fingerprint -> module or file -> hash of its own source. Those of results that are
    still there are kept.
    """

    code: dict[str, dict[str, str]]


def settings(train: TrainPlan, knn: KnnPlan) -> dict[str, Any]:
    """Every parameter of a run under one flat name: model, latent, train.epochs, knn.k, ..."""
    recipe = train.train.model_dump() if train.train else {}
    flat = {"model": train.model, **train.build}
    if train.weights:  # files of one name may be others in the results of others
        flat["weights"] = f"{train.weights.file} ({train.weights.hash[:8]})"
    flat |= {f"train.{key}": value for key, value in recipe.items()}
    return flat | {f"knn.{key}": value for key, value in knn.knn.model_dump().items()}


def plan_of_format_1(result: Path, stage: str, plan_hash: str) -> dict[str, Any] | None:
    """The plan of a result that does not hold it, from beside its results folder, if it is there.

    Results of format 1 name their plan by its hash alone.
    """
    run, folder = result.parent.parent.name, result.parent.parent.parent.parent
    path = folder / "plan" / run / f"{stage}.json"
    if not path.is_file() or sha256(path.read_bytes()) != plan_hash:
        return None
    content = json.loads(path.read_bytes())
    if stage == "knn":
        knn = {key: content.pop(key) for key in ("k", "metric", "backend")}
        content |= {"knn": knn}
    return content
