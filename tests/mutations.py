"""Changes that a text or a file may suffer, for tests and for what goes on at random.

`random.Random` decides: the same seed gives the same change.
"""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

# Values and keys as they stand in the file, none of them a common one.
ODD = [
    *("true", "null", "~", "1e3", "1", "-1", "007", "1_000", "0x1F", "0b1", "1:30", "1e400"),
    *(".nan", "-.inf", "2020-01-01", "2020-13-45", "2020-01-01T10:00:00+99:00", "on", "=", "<<"),
    *('""', '"\\0"', '"a\\nb"', '"\\e[31m"', '"\\ud800"', '"\\u2028"', '"\\UFFFFFFFF"', '"\ufeff"'),
    *("9" * 5000, "0x" + "f" * 5000, "a" * 5000, "'" + "a b" * 5000 + "'", "ä", "é" * 200),
    *("!!set {a, b}", "!!binary aGk=", "!!binary '*'", "!!timestamp foo", "!!bool maybe"),
    *("!!int ''", "!!float x", "!!omap [a: 1]", "!!pairs [a: 1]", "!!str 5", "!!null x", "!foo x"),
    *("!!python/object/apply:os.system [echo]", "!!python/name:os.system x", "!!merge x"),
    *("[]", "{}", "[[]]", "{a: {b: [1]}}", "{1: 2}", "{null: 1}", "{true: 1}", "{[1, 2]: 3}"),
    *(
        "{{a: 1}: 2}",
        "{[[1], 2]: 3}",
        "{? [0xf] : 1}",
        "{2020-01-01: 1}",
        '{"a\\nb": 1}',
        "{'': 1}",
    ),
    *("&a [*a]", "&a {b: *a}", "&a {<<: *a}", "&a {*a : 1}", "*nowhere", "&a 1", "{<<: 1}"),
    *("[" * 500, "[" * 500 + "]" * 500, "{a: " * 500 + "1" + "}" * 500, "- " * 500 + "1"),
    *(
        "[" * 40 + "]" * 40,
        "[" + "1, " * 10_100 + "1]",
        "\n...\n---\na: 1",
        "\n--- 2",
        "\0",
        "\x85",
    ),
    "[&a [1,1,1,1,1,1,1,1], "
    + ", ".join(f"&{chr(c)} [*{chr(c - 1)},*{chr(c - 1)},*{chr(c - 1)}]" for c in range(98, 122))
    + "]",
]
# So that a JSON file holds them: the others are no JSON, or the same as one of these.
ODD_JSON = [
    *("null", "true", "-1", "0.5", "1e999", "NaN", "Infinity", "9" * 400, "9" * 5000),
    *('""', '"\\ud800"', '"\\u0000"', '"x"', "[]", "{}", "[[]]", '{"a": 1, "a": 2}'),
    *("[" * n + "]" * n for n in (100, 900, 100_000)),
    *('{"a": ' * n + "1" + "}" * n for n in (100, 900, 100_000)),
]


def tree() -> list[Any]:
    """params.yaml as nested lists of (key, text or list)."""
    train = ("epochs", "batch_size", "learning_rate", "muon_learning_rate", "weight_decay")
    run = [["model", "light"], ["latent", "3"], ["trials", "12 settings"]]
    return [
        ["dataset", "digits"],
        ["image_size", "null"],
        ["channels", "null"],
        ["holdout", "0.1"],
        ["latent", "32"],
        ["depth", "3"],
        ["seeds", "[0, 1]"],
        ["train", [*([key, "1"] for key in train), ["horizontal_flip", "true"]]],
        ["knn", [["k", "10"], ["metric", "l2"], ["backend", "faiss"]]],
        [
            "runs",
            [["one", [*run, ["train", [["epochs", "0"]]], ["knn", [["k", "5"]]]]], ["two", run]],
        ],
    ]


def entries(node: list[Any]) -> Iterator[tuple[list[Any], int]]:
    """(list, index) of each key at each level."""
    for index, (_, value) in enumerate(node):
        yield node, index
        if isinstance(value, list):
            yield from entries(value)


def text_of(node: list[Any], indent: str = "") -> str:
    """The lines of the tree."""
    lines = (
        f"{indent}{key}:\n{text_of(value, indent + '  ')}"
        if isinstance(value, list)
        else f"{indent}{key}: {value}\n"
        for key, value in node
    )
    return "".join(lines)


def changed_params(draw: Random) -> str:
    """A params.yaml with one to three changes, each at any key of any level."""
    root = tree()
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        node, index = draw.choice(list(entries(root)))
        match draw.randrange(5):
            case 0:
                del node[index]
            case 1:
                node.insert(index, node[index])
            case 2:
                node.insert(index, [draw.choice(ODD), draw.choice(ODD)])
            case 3:
                node[index] = [draw.choice(ODD), node[index][1]]
            case 4:
                node[index] = [node[index][0], draw.choice(ODD)]
        if not root:
            break
    return text_of(root)


def changed_json(content: Any, draw: Random) -> str:
    """The JSON value with one value anywhere in it left out or replaced by an odd one."""
    places = list(below(content))
    if not places or draw.random() < 0.05:
        return draw.choice(ODD_JSON)
    copy = json.loads(json.dumps(content))
    inner = copy
    *path, last = draw.choice(places)
    for key in path:
        inner = inner[key]
    if draw.random() < 0.2:
        del inner[last]
        return json.dumps(copy)
    inner[last] = MARK
    return json.dumps(copy).replace(json.dumps(MARK), draw.choice(ODD_JSON))


MARK = "here the odd one comes"


def below(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys and indices of each value below this one."""
    if isinstance(value, dict):
        items = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from below(item, (*place, key))


def changed_bytes(content: bytes, draw: Random) -> bytes:
    """One to four of: a flipped bit, some bytes left out, a byte or a piece of it put in."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(4):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                del data[at : at + draw.randint(1, 30)]
            case 2:
                data[at:at] = bytes([draw.choice(b"\n\t :-[]{}&*!#'\"%@`|>?,~\0\xff")])
            case _:
                data[at:at] = data[draw.randrange(len(data) + 1) :][: draw.randint(1, 30)]
    return bytes(data)
