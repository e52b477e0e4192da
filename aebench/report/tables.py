"""Tables of configurations: their usual columns, and what stands under them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from aebench.evaluation.uncertainty import of_accuracies, over_seeds
from aebench.report import measures
from aebench.report.configurations import Configuration
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Code,
    Format,
    Header,
    Table,
    Text,
    Tone,
)
from aebench.report.measures import Measure
from aebench.report.texts import LISTED, named, others, short

CellOf = Callable[[Configuration], Cell]


class Column(NamedTuple):
    """A column of a table: its header, its cell for a configuration, and what it means.

    `group`: the question that it answers in a wide table; none: it stands with all of them.
    """

    header: str
    cell: CellOf
    meaning: Text = ""
    is_text: bool = False
    group: str = ""

    def strong(self, ones: Sequence[Configuration]) -> "Column":
        """The same column, in bold for these configurations."""

        def cell(one: Configuration) -> Cell:
            found = self.cell(one)
            return replace(found, strong=True) if one in ones else found

        return self._replace(cell=cell)

    def of_group(self, group: str) -> "Column":
        """The same column, in this group."""
        return self._replace(group=group)


def table(columns: Sequence[Column], ones: Sequence[Configuration]) -> Table:
    """A row for each configuration; without the columns in which none has anything."""
    shown = filled(columns, ones)
    return Table(headers(shown), [[column.cell(one) for column in shown] for one in ones])


def filled(columns: Sequence[Column], ones: Sequence[Configuration]) -> list[Column]:
    """The columns in which any of them has something."""
    return [column for column in columns if any(column.cell(one).spans for one in ones)]


def headers(columns: Sequence[Column]) -> list[Header]:
    """Of a table with these columns."""
    return [Header(c.header, c.meaning, c.is_text, c.group) for c in columns]


def notes(ones: Sequence[Configuration]) -> list[Block]:
    """What is to be known of the models, each sentence once; of many the first."""
    said: dict[str, list[Configuration]] = {}
    for one in ones:
        for sentence in remarks(one):
            said.setdefault(sentence, []).append(one)
    # What users wrote is last: it pushes out no other sentence.
    theirs = {words for one in ones for words in (one.first("note"), *chosen(one))}
    first = sorted(said.items(), key=lambda item: item[0] in theirs)[:LISTED]
    items: list[Text] = [
        [named([one.name for one in found], 4), f": {short(words)}."] for words, found in first
    ]
    items += others(len(said) - len(first), "notes", "results.csv has them")
    return [BulletList(items)] if items else []


def remarks(one: Configuration) -> list[str]:
    """The model's own note, how its settings were chosen, what it was given, and why a figure is
    blank or not what it seems.
    """
    if not one.ok:
        return []
    found = [one.first("note")] if one.first("note") is not None else []
    found += chosen(one)
    if one.saw_labels:
        found.append(
            "saw the labels of the training images: no rival in accuracy to what learnt from the "
            "images alone"
        )
    if (file := one.begun_with) is not None:
        as_is = one.settings.get("train.epochs") == 0
        as_they_are = f"the weights of {file}, scored as they are"
        found.append(as_they_are if as_is else f"began with {file}")
    if "mse" not in one.images:
        found.append("an encoder alone: what needs a reconstruction is blank")
    if one.is_packed:
        rounded = one.mean("mse_8bit")
        why = one.first("rounded_note")
        if rounded is not None:
            why = f"MSE {one.mean('mse'):.5f} as float32, {rounded:.5f} rounded to 8 bits"
        found.append(
            "its floats may hold more than a number each, as packed codes do: in no ranking of the "
            f"MSE ({why})"
        )
    if (operations := one.first("uncounted_operations")) is not None:
        found.append(f"its MACs are not known, torch has no count of {operations}")
    return found


def chosen(one: Configuration) -> list[str]:
    """How its settings were, in the words of params.yaml."""
    return [f"trials: {words}" for words in one.trials]


def number(column: str, pattern: str, factor: float = 1) -> CellOf:
    """A cell with the mean over seeds, and its interval where they differ; blank without any."""

    def cell(one: Configuration) -> Cell:
        values = one.values(column)
        return Cell(over_seeds(values), Format(pattern, factor)) if values else Cell()

    return cell


def of_measure(measure: Measure) -> Column:
    """Its usual column: with the interval over seeds and images."""
    cell = measured(measure.column, *measure.written)
    return Column(measure.title, cell, measure.meaning)


def measured(column: str, pattern: str, factor: float = 1, narrow: bool = False) -> CellOf:
    """A cell with the interval over seeds and images; blank without the figure."""

    def cell(one: Configuration) -> Cell:
        written = Format(pattern, factor, narrow)
        return Cell(one.intervals.get(column), written, text=exact(one, column))

    return cell


def exact(one: Configuration, column: str) -> str | None:
    """What is written in place of an error that is none: a capped PSNR says nothing."""
    return "exact" if column in ("mse", "psnr") and one.mean("mse") == 0 else None


def probe(column: str) -> Callable[[Configuration], Cell]:
    """A probe's accuracy, with the interval of an accuracy."""

    def cell(one: Configuration) -> Cell:
        values = one.values(column)
        if not values:
            return Cell()
        return Cell(of_accuracies(values, len(one.outcomes[0])), Format("{:.2f}", 100))

    return cell


def seeds(one: Configuration) -> Cell:
    """How many the figures are of: `3`, `2 of 3`, or `any` where the seed changes nothing."""
    count = len(one.ok)
    if len(one.outcomes) == 1 and (count > 1 or one.is_seedless):
        return Cell(count, text="any")
    failed = count < len(one.results)
    return Cell(count, text=f"{count} of {len(one.results)}" if failed else None)


def layers(one: Configuration) -> Cell:
    """`3 + 3`: what was counted in encoder and decoder."""
    encoder, decoder = one.first("encoder_layers"), one.first("decoder_layers")
    if encoder is None:
        return Cell()
    return Cell(encoder + (decoder or 0), text=f"{encoder} + {decoder}")


def tone(one: Configuration) -> Tone:
    """Of its name: references are quiet."""
    return "quiet" if one.is_reference else ""


def status(one: Configuration) -> Cell:
    """Why the first failed seed failed; blank where none did."""
    return Cell(next((r.columns["status"] for r in one.results if not r.ok), None))


RUN = Column("run", lambda one: Cell(one.name, card=one.card, tone=tone(one)), is_text=True)
SHORT_RUN = RUN._replace(
    cell=lambda one: Cell(one.name, text=one.short_name, card=one.card, tone=tone(one))
)
SEEDS = Column(
    "seeds",
    seeds,
    ["trained and measured this often; ", Code("any"), ": the seed changes nothing"],
)
LATENT = Column("floats", lambda one: Cell(one.latent), "numbers per code")
BYTES = Column("bytes", number("code_bytes", "{:,.0f}"), "one code, float32")
STATUS = Column("status", status, [Code("failed"), " with its reason"], is_text=True)
LAYERS = Column("layers", layers, "Linear and (transposed) convolution layers, encoder + decoder")
PARAMS = Column(
    "params", number("num_params", "{:,.0f}"), "numbers in the parameters of both halves"
)
SIZE = Column(
    "size, kB", number("model_bytes", "{:,.1f}", 1e-3), "float32 state dict, 1 kB = 1000 B"
)
MACS = Column(
    "MMACs",
    number("macs", "{:,.2f}", 1e-6),
    "millions of multiply-accumulates per image in the products and convolutions of both halves",
)
MSE = of_measure(measures.MSE)
MSE_1000 = Column("MSE x 1000", measured("mse", "{:.2f}", 1e3), "1000 times the MSE")
PSNR = of_measure(measures.PSNR)
ACCURACY = of_measure(measures.ACCURACY)
SHORT_ACCURACY = ACCURACY._replace(cell=measured("accuracy", "{:.1f}", 100, True))
PROBE = Column(
    "linear probe, %",
    probe("probe_accuracy"),
    "test images that logistic regression on the whitened training codes gets right",
)
MLP_PROBE = Column(
    "MLP probe, %",
    probe("mlp_probe_accuracy"),
    "the same, of a network with one hidden layer of 200: 10 epochs, 250 steps at least, of Adam, "
    "the same for all, without regularisation: of many floats it may get less than the linear one",
)
