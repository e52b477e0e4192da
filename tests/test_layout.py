"""The structure: who imports whom, and that documents and code say the same."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from conftest import ROOT

from aebench import hookspecs
from aebench.cli import verbs
from aebench.fingerprint import PACKAGE
from aebench.models.signatures import FIRST, OFFERED
from aebench.workspace import STAGES

HEAVY = {"torch", "torchvision", "sklearn", "faiss", "matplotlib", "dvc", "numpy", "scipy"}
ENTRANCE = {"__init__", "__main__", "api", "cli"}
# Room -> the rooms that its modules may import.
MAY_IMPORT = {
    "ground": {"ground", "records"},
    "records": {"ground", "records"},
    "models": {"ground", "records", "models"},
    "evaluation": {"ground", "records", "evaluation"},
    "report": {"ground", "records", "evaluation", "report"},
    "farm": {"ground", "records", "farm"},
    "stages": {"ground", "records", "evaluation", "models", "report"},  # never each other
    # What a stage does they do again elsewhere, and what is written new is checked.
    "commands": {"ground", "records", "models", "report", "farm", "stages", "commands"},
    "entrance": {"ground", "records", "models", "report", "stages", "commands", "entrance"},
}


def room(module):
    """`aebench.models.training` -> `models`."""
    parts = module.split(".")[1:]
    if not parts or parts[0] in ENTRANCE:
        return "entrance"
    return parts[0] if (PACKAGE / parts[0]).is_dir() else "ground"


def modules():
    """Module -> what it imports of aebench, wherever the import stands."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = set(imported(ast.parse(path.read_text())))
    return found


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "aebench")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "aebench":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / f"{whole.replace('.', '/')}.py").is_file()
                yield whole if is_module else node.module


def test_rooms_import_only_what_they_may():
    wrong = [
        f"{module} imports {other}"
        for module, others in modules().items()
        for other in others
        if room(other) not in MAY_IMPORT[room(module)]
    ]
    assert wrong == []


def test_no_circle_of_imports():
    graph = {name: others - {"aebench"} for name, others in modules().items()}
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


@pytest.mark.parametrize("verb", verbs())
def test_a_verbs_module_says_all_of_it_and_imports_nothing_heavy(verb):
    module = f"aebench.{verbs()[verb].parent.name}.{verb.replace('-', '_')}"
    code = f"import sys, {module} as m; m.{verb.replace('-', '_')}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()


def test_training_does_not_import_the_compiler(baseline):
    code = (
        "import sys; from aebench.cli import run; run(['train', 'mlp', '0']);"
        "run(['encode', 'mlp', '0']);"
        "assert not {'torch._dynamo', 'torchvision', 'sklearn'} & set(sys.modules)"
    )
    baseline.run("python", "-c", code)


def test_report_imports_no_torch(baseline):
    code = (
        "import sys; from aebench.cli import run; run(['report']);"
        "assert not {'torch', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    baseline.run("python", "-c", code)


def test_dvc_stages_are_the_verbs():
    text = (ROOT / "dvc.yaml").read_text()
    assert re.findall(r"^  (\w+):", text, re.MULTILINE) == list(STAGES)
    assert list(verbs())[: len(STAGES)] == list(STAGES)


def test_help_of_every_verb(capsys):
    from aebench.cli import run

    with pytest.raises(SystemExit):
        run(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {verb}\s", text, re.MULTILINE) for verb in verbs())
    for verb in verbs():
        with pytest.raises(SystemExit):
            run([verb, "--help"])
        assert f"usage: aebench {verb}" in capsys.readouterr().out


def test_a_closed_pipe_is_no_failure_of_the_machine():
    command = f"{sys.executable} -m aebench list | true"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


def test_readme_is_short_and_complete():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    for words in [f"aebench {verb}" for verb in verbs()] + hooks:
        assert words in text, words
    for name, offered in OFFERED.items():
        signature = f"`{name}({FIRST[name]}{''.join(f'[, {word}]' for word in offered)})`"
        assert signature in text and signature in hookspecs.register_models.__doc__


def test_readme_figures_are_those_of_the_committed_report():
    readme = (ROOT / "README.md").read_text()
    report = (ROOT / "docs/cifar10/report.md").read_text()
    table = re.search(r"<!-- table -->\n(.*?)<!-- end -->", readme, re.DOTALL)
    assert table
    rows, (header, *others) = iter(report.splitlines()), table[1].splitlines()
    assert header in rows and others and all(row in rows for row in others)  # in their order


@pytest.mark.parametrize(
    "page", ["README.md", "docs/report.md", "docs/plugins.md", "docs/scale.md"]
)
def test_links_of_the_pages_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert links, page
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert missing == []


def test_the_package_alone_imports_nothing_before_a_command_can_hear_ctrl_c():
    code = (
        "import sys, aebench.__main__; print([m for m in sys.modules if m.startswith('aebench')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['aebench', 'aebench.__main__']\n"


def test_scale_is_a_page_of_at_most_100_lines():
    assert len((ROOT / "docs/scale.md").read_text().splitlines()) <= 100
