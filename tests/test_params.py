"""Whatever params.yaml holds: fault lines or valid settings, never a traceback."""

import json
import random
import shutil

import pytest
from conftest import LIGHT, ROOT, SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import ODD, changed_bytes, changed_params, entries, text_of, tree

from aebench.errors import AebenchError
from aebench.params import NAME, STAND_IN, read_params
from aebench.schema import Params, Recipe
from aebench.workspace import Workspace

ONE = SMALL[: SMALL.index("runs:")] + "runs:\n  one:\n    model: light\n"
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
# So that some of the files are good.
USUAL = [
    "1",
    "2",
    "0.5",
    "true",
    "l2",
    "light",
    "digits",
    "[0]",
    "latent",
    "depth",
    "train",
    "beta",
]
snippets = (
    st.sampled_from(ODD)
    | st.sampled_from(USUAL)
    | values.map(json.dumps)
    | st.text(max_size=20)
    | st.text("abc-_:# \n'\"{}[]&*!", max_size=8)
)
derandomized = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def mutated(draw):
    """A params.yaml with one to three changes, each at any key of any level."""
    root = tree()
    one = root[-1][1][0][1]
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        places = list(entries(root))
        if not places:
            break
        node, index = draw(st.sampled_from(places))
        match draw(
            st.sampled_from(("value", "value", "key", "delete", "duplicate", "add", "option"))
        ):
            case "value":
                node[index] = [node[index][0], draw(snippets)]
            case "key":
                node[index] = [draw(snippets), node[index][1]]
            case "delete":
                del node[index]
            case "duplicate":
                node.insert(index, node[index])
            case "add":
                node.insert(index, [draw(snippets), draw(snippets)])
            case "option":
                one.append(["beta", draw(values.map(json.dumps))])
    return text_of(root)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One light plug-in and digits, for this process."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "plugins").mkdir()
    (root / "plugins/light.py").write_text(LIGHT)
    shutil.copy(ROOT / "plugins/digits.py", root / "plugins")
    return Workspace(root)


def checked(workspace, content):
    """The params, or the fault lines, of a file with this content."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    workspace.params.write_bytes(data)
    try:
        params, faults = read_params(workspace)
    except AebenchError as error:
        params, faults = None, [str(error)]
    assert_lines(faults)
    assert all(len(fault) < 1000 for fault in faults)
    if not faults:
        assert isinstance(params, Params)
        json.dumps(params.model_dump()).encode()
    return params, faults


def assert_lines(faults):
    for fault in faults:
        assert fault.startswith(NAME) and fault.isprintable(), fault


def fault_of(workspace, old, new):
    """The one fault line after this replacement in a good file."""
    assert old in ONE
    _, faults = checked(workspace, ONE.replace(old, new, 1))
    assert len(faults) == 1, faults
    return faults[0]


@settings(derandomized, max_examples=300)
@given(text=mutated())
def test_any_change_gives_fault_lines_or_params(workspace, text):
    checked(workspace, text)


@settings(derandomized, max_examples=300)
@given(text=mutated())
def test_any_change_gives_fault_lines_or_a_plan(workspace, text, monkeypatch, tmp_path):
    from aebench.stages.plan import plan

    monkeypatch.setenv("AEBENCH_DATA", str(tmp_path))
    _, faults = checked(workspace, text)
    try:
        plan(workspace)
    except AebenchError as error:
        assert_lines(str(error).split("\n"))
    else:
        assert not faults
        for path in workspace.plan.rglob("*.json"):
            json.loads(path.read_bytes())


def test_each_odd_value_and_key_somewhere(workspace):
    draw = random.Random(0)
    for odd in ODD:
        for part in (0, 1):
            root = tree()
            node, index = draw.choice(list(entries(root)))
            node[index][part] = odd
            checked(workspace, text_of(root))


def test_500_mutations_of_the_bytes(workspace):
    draw = random.Random(0)
    good = (ROOT / "params.yaml").read_bytes()
    for _ in range(500):
        checked(workspace, changed_bytes(good, draw))


def test_100_mutations_of_a_value_or_key(workspace):
    draw = random.Random(0)
    for _ in range(100):
        checked(workspace, changed_params(draw))


@pytest.mark.parametrize("name", ["true", "1e3", "null", "1", "2020-01-01", "2020-13-45", "0x10"])
def test_a_run_that_yaml_does_not_read_as_text(workspace, name):
    # Unquoted, DVC makes no stage of it and says that all is up to date.
    told = fault_of(workspace, "  one:", f'  "{name}":')
    assert told == (
        f"params.yaml: runs.{name}: got {name}, which is not text in YAML; allowed: names like "
        "^[a-z0-9][a-z0-9_-]{0,99}$ that are text without quotes; rename it"
    )
    if name != "2020-13-45":  # no date, so not YAML at all
        bare = fault_of(workspace, "  one:", f"  {name}:")
        assert "which is not text in YAML; allowed: names like" in bare


@pytest.mark.parametrize("name", ["on", "yes", "1e", "e3", "mlp-1", "0x", "a" * 100])
def test_a_run_that_yaml_reads_as_text(workspace, name):
    params, faults = checked(workspace, ONE.replace("  one:", f"  {name}:"))
    assert not faults and list(params.runs) == [name]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("latent: 32", "latent: 2020-01-01", "latent: got 2020-01-01; allowed: numbers"),
        ("latent: 32", "latent: 0x" + "f" * 5000, "latent: got an integer of 20000 bits; allowed"),
        ("latent: 32", "latent: 1e300", "latent: got 1e+300; allowed: integer"),
        ("latent: 32", "latent: 32\n1: 2", "1: got the key 1; allowed: keys of printable text"),
        ("latent: 32", 'latent: 32\n"a\\nb": 2', "'a\\nb': got the key 'a\\nb'; allowed"),
        ("light", 'light\n    beta: "\\ud800"', "runs.one.beta: got '\\ud800'; allowed: numbers"),
        ("light", "light\n    beta: [1, !!set {a}]", "runs.one.beta.1: got {'a'}; allowed: num"),
        ("light", "light\n    beta: &b [*b]", "runs.one: too much in it; allowed: 10,000 values"),
        ("light", "light\n    beta: {1: 2}", "runs.one.beta.1: got the key 1; allowed: keys"),
        ("  one:", "  " + "a" * 101 + ":", "a'; allowed: names like ^[a-z0-9][a-z0-9_-]{0,99}$"),
        ("  - 0", "  - " + "[" * 3000, "nested too deeply; allowed: 10,000 values in a key or"),
        ("  - 0", "  - !!bool maybe", "not YAML: a value that cannot be read (KeyError: 'maybe')"),
        ("  - 0", "  - 99999999999999999999", "seeds.0: got 99999999999999999999; allowed: num"),
    ],
)
def test_a_line_for_what_yaml_can_hold_and_a_plan_cannot(workspace, old, new, expected):
    assert expected in fault_of(workspace, old, new)


def test_names_that_are_wrong_hide_no_other_fault(workspace):
    text = ONE.replace("  one:", "  true:").replace("latent: 32", "latent: 0")
    params, faults = checked(workspace, text.replace("  k: 10", "  k: x"))
    assert params is None
    assert [fault.split(":")[1] for fault in faults] == [" runs.true", " latent", " knn.k"]


def test_unreadable_file(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(AebenchError, match="^params.yaml: not readable"):
        read_params(Workspace(tmp_path))


def test_each_stand_in_is_valid():
    Params.model_validate(STAND_IN)


def test_each_recipe_key_says_itself_in_a_report():
    for field in Recipe.model_fields.values():
        assert field.description.count("{}") == 1
