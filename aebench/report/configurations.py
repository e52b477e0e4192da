"""Results of equal settings as one configuration, and which configurations differ in one alone."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np

from aebench.evaluation.uncertainty import Interval, interval, of_accuracy
from aebench.metrics import psnr
from aebench.records.plan import Better
from aebench.report.results import Result, equal
from aebench.report.texts import ends, named
from aebench.workspace import sha256

TITLES = {"latent": "Representation size", "depth": "Depth"}
NARROW = 18  # characters of a name in a narrow table
MEASURES = ("mse", "psnr", "accuracy")  # those of each image that every version has


@dataclass(eq=False)
class Configuration:
    """Runs with equal settings, as one: their names, settings and results, one per seed.

    `baseline`: pca or pixels where its plug-in declares that role; `trials`: how its settings were
    chosen, as each of its runs says it.
    """

    names: list[str]
    settings: dict[str, Any]
    baseline: str | None = None
    results: list[Result] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """All names; of many the first. What was given the labels is never named without that."""
        return named(self.names, 4) + self.labelled

    @property
    def labelled(self) -> str:
        """What follows the name of one that was given labels."""
        return " (saw labels)" if self.saw_labels else ""

    @property
    def short_name(self) -> str:
        """The first name, for tables that have to stay narrow: of a long one both ends."""
        more = f" (+{len(self.names) - 1})" if self.names[1:] else ""
        after = more + self.labelled
        return ends(self.names[0], max(NARROW - len(after), 8)) + after

    def called(self, length: int) -> str:
        """`name`; of a long one its ends, but never without what it saw."""
        return ends(named(self.names, 4), max(length - len(self.labelled), 8)) + self.labelled

    @property
    def card(self) -> str:
        """The id of what a page tells of it alone: `run-cnn`."""
        first = self.names[0]
        plain = re.sub(r"[^a-z0-9_-]", "-", first)
        # A gathered name holds its folder's.
        return f"run-{plain}" if plain == first else f"run-{plain}-{sha256(first.encode())[:8]}"

    @property
    def saw_labels(self) -> bool:
        """Whether it was given the labels of the training images."""
        return any(result.columns.get("labels_seen") for result in self.results)

    @property
    def begun_with(self) -> str | None:
        """The weights file that it began with."""
        found = (result.columns.get("begun_with") for result in self.results)
        return next(filter(None, found), None)

    @cached_property
    def ok(self) -> list[Result]:
        """The results of the seeds that did not fail."""
        return [result for result in self.results if result.ok]

    @cached_property
    def outcomes(self) -> list[np.ndarray]:
        """The records of outcomes.npy (N_test,), per seed that did not fail.

        One alone where they are equal: of a model that does not depend on the seed.
        """
        found = [result.outcomes for result in self.ok]
        return found[:1] if all(equal(one, found[0]) for one in found) else found

    @cached_property
    def images(self) -> dict[str, np.ndarray]:
        """What is `measured` of each image: float64 (outcomes, N_test), of those that have it."""
        found = [measured(outcomes) for outcomes in self.outcomes]
        columns = dict.fromkeys(column for one in found for column in one)
        return {c: np.stack([one[c] for one in found if c in one]) for c in columns}

    @property
    def better(self) -> dict[str, Better]:
        """Metric beside MSE and PSNR -> its better direction."""
        return {name: way for result in self.ok for name, way in result.better.items()}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Each of `images` over seeds and images."""
        kinds = {"accuracy": of_accuracy}
        return {c: kinds.get(c, interval)(values) for c, values in self.images.items()}

    def sign(self, column: str) -> int:
        """1 where more of the figure is better, -1 where less is."""
        higher = column in ("accuracy", "psnr") or self.better.get(column) == "higher"
        return 1 if higher else -1

    @property
    def latent(self) -> int | None:
        """Floats per code: the setting or the counted ones."""
        return self.settings.get("latent", self.first("latent"))

    @property
    def is_reference(self) -> bool:
        """Whether nothing was trained by gradient: PCA, pixels, an untrained network.

        Weights that somebody trained elsewhere are none, though no epoch was trained here.
        """
        return not self.settings.get("train.epochs") and not self.begun_with

    @property
    def is_untrained(self) -> bool:
        """Whether it is a network as it was initialised: nobody's weights, nothing fitted."""
        begun = self.begun_with or any(result.columns.get("fitted") for result in self.results)
        return self.settings.get("train.epochs") == 0 and not begun

    @property
    def is_seedless(self) -> bool:
        """Whether the seed changes nothing: what its model says, or a baseline's role."""
        return bool(self.baseline) or any(one.columns.get("seedless") for one in self.results)

    @property
    def is_pixels(self) -> bool:
        """Whether the codes are the raw pixels."""
        return self.baseline == "pixels"

    @property
    def is_pca(self) -> bool:
        """Whether it is the linear optimum."""
        return self.baseline == "pca"

    @property
    def is_packed(self) -> bool:
        """Whether a float of its codes holds more than a number: 8 bits do not keep the MSE.

        What cannot be decoded from 8 bits is not known to hold a number, unless its values are few.
        """
        mse, rounded = self.mean("mse"), self.mean("mse_8bit")
        if mse is None or rounded is None:
            return bool(self.values("rounded_note")) and not self.values("code_bits")
        return rounded > max(2 * mse, mse + 1e-4)

    @property
    def search(self) -> tuple[int, str]:
        """k and metric: accuracies of one protocol have equal ones."""
        return self.settings["knn.k"], self.settings["knn.metric"]

    def values(self, column: str) -> list[float]:
        """The figure of each seed that has it."""
        found = (result.columns.get(column) for result in self.ok)
        return [value for value in found if value is not None]

    def mean(self, column: str) -> float | None:
        """The mean over the seeds that have the figure."""
        values = self.values(column)
        return float(np.mean(values)) if values else None

    def first(self, column: str) -> Any:
        """The figure of the first seed that has it: for what does not depend on the seed."""
        return next(iter(self.values(column)), None)


def measured(outcomes: np.ndarray) -> dict[str, np.ndarray]:
    """Of the records (N_test,), float64: mse, psnr in dB, accuracy 0 or 1, further metrics.

    Of an encoder alone the accuracy.
    """
    right = (outcomes["label"] == outcomes["prediction"]).astype(np.float64)
    others = [n for n in outcomes.dtype.names or () if n not in ("label", "prediction")]
    found = {name: outcomes[name].astype(np.float64) for name in others}
    if "squared_error" not in found:
        return {"accuracy": right}
    errors = found.pop("squared_error")
    return {"mse": errors, "psnr": psnr(errors), "accuracy": right} | found


def configurations(results: Iterable[Result]) -> list[Configuration]:
    """Results grouped by their key; of several with one seed the first counts."""
    results = list(results)
    # A failed result may not know its role, but another one of its model does.
    roles = {role_key(r): r.columns["baseline"] for r in results if r.columns.get("baseline")}
    found: dict[str, Configuration] = {}
    for result in results:
        one = found.setdefault(
            result.key, Configuration([], result.settings, roles.get(role_key(result)))
        )
        if result.run not in one.names:
            one.names.append(result.run)
        if (said := result.columns.get("trials")) and said not in one.trials:
            one.trials.append(said)
        if result.seed not in (other.seed for other in one.results):
            one.results.append(result)
    return list(found.values())


def role_key(result: Result) -> tuple[str, str]:
    """What declares one role: a model, as the workspace that computed it has it."""
    return result.source, result.columns["model"]


def best_and_references(everything: Sequence[Configuration], most: int) -> list[Configuration]:
    """Those that did not fail, in their order; of many the best, and of references a third."""
    found = [one for one in everything if one.ok]
    if len(found) <= most:
        return found
    references = best_first([one for one in found if one.is_reference])[: most // 3]
    others = best_first([one for one in found if not one.is_reference])
    rest = [one for one in best_first(found) if one not in references and one not in others]
    kept = {*[*references, *others, *rest][:most]}
    return [one for one in found if one in kept]


def unlabelled(ones: Sequence[Configuration]) -> list[Configuration]:
    """Those that saw no labels, which alone are rivals in accuracy; all where all saw them."""
    return [one for one in ones if not one.saw_labels] or list(ones)


def best_first(ones: Sequence[Configuration]) -> list[Configuration]:
    """By accuracy and by MSE, where that is known, in turn."""
    accurate = sorted(ones, key=lambda one: -one.intervals["accuracy"].mean)
    decoding = [one for one in ones if "mse" in one.intervals]
    alike = sorted(decoding, key=lambda one: one.intervals["mse"].mean)
    return [*dict.fromkeys(one for pair in zip_longest(accurate, alike) for one in pair if one)]


def of_all(
    shown: Sequence[object],
    everything: Sequence[Configuration],
    which: str = "the best and the references",
) -> str:
    """What to say of a choice: nothing where it is all that did not fail."""
    count = sum(1 for one in everything if one.ok)
    if len(shown) >= count:
        return ""
    return f" {len(shown)} of {count:,} runs: {which}."


def swept(everything: Iterable[Configuration]) -> dict[str, list[list[Configuration]]]:
    """Parameter -> groups of configurations that differ in that parameter alone, by its value.

    The representation size and the depth come first. An untrained network is a reference, not the
    one with 0 epochs of a study.
    """
    trained = [c for c in everything if not c.is_untrained]
    names = ["latent", "depth"] + sorted(
        {n for c in trained for n in c.settings} - {"model", "latent", "depth"}
    )
    found = {name: differing(name, trained) for name in names}
    return {name: groups for name, groups in found.items() if groups}


def differing(name: str, trained: Sequence[Configuration]) -> list[list[Configuration]]:
    """Groups of two or more that agree in all settings but this one."""
    groups: dict[str, list[Configuration]] = {}
    for one in trained:
        if name in one.settings:
            others = {k: v for k, v in one.settings.items() if k != name}
            groups.setdefault(json.dumps(others, sort_keys=True), []).append(one)
    return [
        sorted(group, key=lambda c: sort_key(c.settings[name]))
        for group in groups.values()
        # Of equal settings and other code there may be several, too.
        if len({json.dumps(one.settings[name], sort_keys=True) for one in group}) > 1
    ]


def sort_key(value: Any) -> tuple[bool, Any]:
    """Numbers by size before everything else by its text."""
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def title(name: str) -> str:
    """The heading of a parameter's study."""
    return TITLES.get(name, f"Parameter {name}")
