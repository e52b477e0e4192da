"""What is found in some results, each thing once: what every section of a report is made from."""

from functools import cached_property

import numpy as np

from aebench.report.baselines import Baselines
from aebench.report.configurations import Configuration, configurations
from aebench.report.looks import looks
from aebench.report.measures import Measure, further
from aebench.report.pictures import Look
from aebench.report.results import Results
from aebench.report.search import SearchCosts
from aebench.report.ties import Ties
from aebench.report.times import Times


class Findings:
    """Configurations in the order of params.yaml, and what they are held against."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.configurations = configurations(results.results)
        self.baselines = Baselines(self.configurations)
        self.ties = Ties()
        self.times = Times(results.results)
        self.costs = SearchCosts(
            self.configurations, self.baselines, self.times, self.ties, results.data
        )

    @cached_property
    def looks(self) -> dict[Configuration, Look]:
        """How each is drawn, everywhere."""
        return looks(self.configurations)

    @cached_property
    def further(self) -> list[Measure]:
        """What is measured of reconstructions beside MSE and PSNR."""
        return further(self.configurations)

    @property
    def coded(self) -> list[Configuration]:
        """What did not fail and is not the pixels themselves."""
        return [one for one in self.configurations if one.ok and not one.is_pixels]

    @property
    def at_defaults(self) -> list[Configuration]:
        """The configurations at the default size and depth."""
        defaults = {"latent": self.results.latent, "depth": self.results.depth}
        return [
            one
            for one in self.configurations
            if all(one.settings.get(key, value) == value for key, value in defaults.items())
        ]

    @property
    def guess(self) -> str:
        """What `chance` is called: where the classes are of one size, just that."""
        is_even = self.chance * len(self.results.data.classes) < 1.005
        return "chance" if is_even else "always the commonest class"

    @property
    def chance(self) -> float:
        """The accuracy of always saying the commonest class of the test images."""
        labels = next((one.outcomes[0]["label"] for one in self.configurations if one.ok), None)
        classes = len(self.results.data.classes)
        if labels is None:
            return 1 / classes
        return float(np.bincount(labels, minlength=classes).max() / len(labels))
