"""FAISS's factory strings of approximate indexes: which are tried, and what each needs.

FAISS is not asked: of some strings (`HNSW0`) it ends the whole process, and importing it takes
longer than the rest of a plan.
"""

import re
from dataclasses import dataclass

POINTS = 39  # training points a cell, below which FAISS warns
OPQ_POINTS = 256  # values of one of its bytes
CODE = r"Flat|SQ(?:4|6|8|fp16|bf16)|RaBitQ|PQ(?P<{0}>\d{{1,6}})(?:x(?:4fs|(?P<{0}bits>\d{{1,2}})))?"
FORM = re.compile(
    r"(?P<before>(?:(?:PCAR?\d{1,6}|RR\d{1,6}|OPQ\d{1,6}(?:_\d{1,6})?),)*)"
    r"(?:HNSW(?P<links>\d{1,4})(?:[,_](?:Flat|SQ(?:4|6|8|fp16|bf16)|PQ(?P<graph>\d{1,6})))?"
    rf"|IVF(?P<cells>\d{{1,8}})(?:_HNSW(?P<coarse>\d{{1,4}}))?,(?:{CODE.format('cell')})"
    rf"|(?P<alone>{CODE.format('bank')}))"
    r"(?:,(?:RFlat|Refine\((?:Flat|SQ8|SQfp16|SQbf16)\)))?"
)
ALLOWED = (
    "allowed: IVF1024,CODE, IVF1024_HNSW32,CODE, HNSW32 or HNSW32,CODE, or CODE alone, where CODE "
    "is Flat, SQ8, SQ6, SQ4, SQfp16, SQbf16, RaBitQ, PQ16, PQ16x10 or PQ16x4fs; before it PCA64, "
    "PCAR64, RR64, OPQ16 or OPQ16_64, behind it RFlat or Refine(SQ8), between commas; any numbers"
)
# Of what FAISS knows and is not tried, by how it begins.
REFUSED = {
    "NSG": "FAISS cannot set how far it searches (search_L), so there is nothing to sweep",
    "IDMap": "it takes numbers of one's own, of which there are none",
    "B": "its codes are bits, and those of a run are floats",
    "IMI": "its cells are a product, whose number nobody chooses; take IVF",
}


@dataclass(frozen=True)
class Index:
    """What a factory string says. `before`: its transforms, as FAISS writes them."""

    factory: str
    before: tuple[str, ...]
    cells: int  # 0: none
    parts: int  # of a product quantiser; 0: none
    bits: int  # of each

    @property
    def points(self) -> int:
        """Training points that it needs: for its cells as many as FAISS asks for."""
        widths = [int(text[3:].lstrip("R")) for text in self.before if text.startswith("PCA")]
        rotated = any(text.startswith("OPQ") for text in self.before)
        needs = [POINTS * self.cells, *widths, 2**self.bits if self.parts else 1]
        return max([*needs, OPQ_POINTS if rotated else 1])

    def misfit(self, floats: int) -> str | None:
        """Why it cannot hold codes of so many floats; None if it can."""
        for text in self.before:
            first, _, second = text.lstrip("ACOPQR").partition("_")
            count = int(first)
            if text.startswith("PCA") and count > floats:
                return f"{text} makes {count} floats of {floats}; allowed: at most {floats}"
            if text.startswith("OPQ"):
                floats = int(second) if second else floats
                if floats % count:
                    return f"{text} cuts {floats} floats into {count} parts; {divisors(floats)}"
            else:
                floats = count
        if self.parts and floats % self.parts:
            words = f"PQ{self.parts} cuts {floats} floats into {self.parts} parts"
            return f"{words}; {divisors(floats)}"
        return None


def divisors(floats: int) -> str:
    """Into how many parts so many floats can be cut."""
    found = [count for count in range(1, min(floats, 4096) + 1) if floats % count == 0]
    return f"allowed: {', '.join(map(str, found))}"


def parsed(factory: str) -> Index:
    """What the string says. ValueError, with the reason, for what is not tried."""
    found = FORM.fullmatch(factory)
    if found is None:
        known = next((why for name, why in REFUSED.items() if has(factory, name)), None)
        raise ValueError(f"{known}; {ALLOWED}" if known else ALLOWED)
    number = {name: int(text) for name, text in found.groupdict().items() if is_number(text)}
    for name in ("links", "coarse"):
        if number.get(name, 2) < 2:
            raise ValueError(f"HNSW{number[name]} has no graph; allowed: HNSW2 and more")
    before = tuple(filter(None, found["before"].split(",")))
    numbers = [int(text) for one in before for text in re.findall(r"\d+", one)]
    if 0 in [*numbers, *number.values()]:
        raise ValueError("0 of something; allowed: 1 and more")
    if found["alone"] == "Flat" and not before:
        raise ValueError("the exact search, which is measured beside every index; remove the line")
    parts = max(number.get(name, 0) for name in ("graph", "cell", "bank"))
    fast = "x4fs" in factory
    bits = max(number.get(name, 0) for name in ("cellbits", "bankbits")) or (4 if fast else 8)
    if bits > 16:
        raise ValueError(f"x{bits}; allowed: 1 to 16 bits")
    return Index(factory, before, number.get("cells", 0), parts, bits)


def has(factory: str, name: str) -> bool:
    """Whether a part of the string begins so."""
    return any(part.strip().startswith(name) for part in factory.split(","))


def is_number(text: str | None) -> bool:
    """Whether a group is one."""
    return text is not None and text.isdecimal()
