"""How each configuration is drawn, the same in every picture and in the page."""

from collections.abc import Sequence

from aebench.report.configurations import Configuration
from aebench.report.pictures import Look

# Name -> in light and in dark surroundings. No two of c0 to c7 look alike to the colour-blind when
# their markers are read, too, and each can be read as text.
PALETTE = {
    "ink": ("#1a1d21", "#e9ecef"),
    "quiet": ("#5b6470", "#a3adb8"),
    "grid": ("#e3e6ea", "#2e343b"),
    "paper": ("#ffffff", "#14171a"),
    "heat": ("#0072b2", "#2b8fd0"),
    "cold": ("#c05a10", "#c4682c"),
    "c0": ("#b34a00", "#f0904a"),
    "c1": ("#00795a", "#3cc9a0"),
    "c2": ("#0066a8", "#5fb4ef"),
    "c3": ("#a3487f", "#e58fc2"),
    "c4": ("#7a6200", "#e3c53a"),
    "c5": ("#5a4fb0", "#a99cf5"),
    "c6": ("#00707e", "#54c6d6"),
    "c7": ("#8c3b3b", "#ee9b9b"),
}
MIX = 0.55  # of heat or cold at the ends of a scale: ink can be read on it
COLOURS, MARKERS, LINES = 8, "oD^vP<>h", ("-", "-.", ":")
PCA, PIXELS = Look("ink", "s", "--"), Look("quiet", "X", ":")


def looks(everything: Sequence[Configuration]) -> dict[Configuration, Look]:
    """The look of each: that of its model, by the order of the models.

    PCA is ink, dashed and square; what learnt nothing is quiet: pixels, and an untrained network
    with the marker of its model.
    """
    own = [one for one in everything if not one.baseline]
    models = dict.fromkeys(one.settings["model"] for one in own)
    of_model = {model: nth(place) for place, model in enumerate(models)}
    found = {}
    for one in everything:
        look = PCA if one.is_pca else PIXELS if one.is_pixels else of_model[one.settings["model"]]
        found[one] = Look("quiet", look.marker, look.line) if one.is_untrained else look
    return found


def nth(place: int) -> Look:
    """Of the model at this place: 8 colours, each with 8 markers; then the same in other lines."""
    turn, colour = divmod(place, COLOURS)
    marker = MARKERS[(colour + turn) % len(MARKERS)]
    return Look(f"c{colour}", marker, LINES[turn // len(MARKERS) % len(LINES)])
