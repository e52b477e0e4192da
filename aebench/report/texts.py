"""What users have named or written, where there is not room for all of it."""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

NAMED = 12  # names in a sentence; of more the first, and the number of the others
LISTED = 20  # items of a list
LONGEST = 300  # characters of a text in a table or a list; results.csv has all of it

Item = TypeVar("Item")

# Controls, and marks that turn the direction of what follows.
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
HALVES = re.compile("[\ud800-\udfff]")  # of characters: no UTF-8 holds one
NEW_LINES = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def on_one_line(text: str) -> str:
    """The text without line breaks and without what cannot be seen."""
    return whole(UNSEEN.sub("", NEW_LINES.sub(" ", text)))


def whole(text: str) -> str:
    """The text without halves of characters, which no file can hold."""
    return HALVES.sub("\ufffd", text)


def short(text: str, length: int = LONGEST) -> str:
    """The text; of a longer one the beginning."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def ends(text: str, length: int) -> str:
    """The text; of a longer one the beginning and the end, in which runs of a sweep differ."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"


def counted(number: int, what: str) -> str:
    """`1 run`, `3 classes`."""
    several = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number:,} {what if number == 1 else several}"


def named(names: Sequence[str], limit: int = NAMED, between: str = ", ") -> str:
    """`a, b, c`; of many the first, and how many others there are."""
    if len(names) <= limit + 1:
        return between.join(names)
    return f"{between.join(names[:limit])} and {len(names) - limit:,} others"


def one_of_each(
    items: Sequence[Item], kind: Callable[[Item], Hashable], limit: int = LISTED
) -> list[Item]:
    """So many of the items, in their order: one of each kind, then the first of the rest."""
    kinds: dict[Hashable, int] = {}
    for place, item in enumerate(items):
        kinds.setdefault(kind(item), place)
    places = [*dict.fromkeys([*kinds.values(), *range(len(items))])]
    return [items[place] for place in sorted(places[:limit])]


def others(count: int, what: str, where: str) -> list[str]:
    """`88 more failed: results.csv has them.`, as a last item; empty for none."""
    return [f"{count:,} more {what}: {where}."] if count > 0 else []
