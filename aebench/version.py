"""What this version of aebench ships for a workspace, and which version a workspace is of."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aebench.errors import AebenchError
from aebench.workspace import Workspace, json_bytes, sha256

PACKAGE = Path(__file__).parent
RECORD = ".aebench-version.json"
FORMAT = 1


@dataclass(frozen=True)
class Record:
    """The version that a workspace is of, and the files that it shipped: name -> SHA-256.

    What lies in the workspace under such a name was changed there if its hash is another.
    """

    version: str
    files: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The content of the record's file."""
        return json_bytes({"format": FORMAT, "aebench": self.version, "files": dict(self.files)})


def read_record(root: Path) -> Record | None:
    """The workspace's record; None where there is none, AebenchError where it can't be read."""
    path = root / RECORD
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise AebenchError(f"{path}: {error}; {mend(path)}") from None
    match content:
        case {"format": int(found)} if found > FORMAT:
            raise AebenchError(
                f"{path}: got format {found}, allowed up to {FORMAT}: a later aebench wrote it; "
                "pip install --upgrade aebench"
            )
        case {"format": int(), "aebench": str(version), "files": dict(files)}:
            if all(isinstance(digest, str) for digest in files.values()):
                return Record(version, files)
    raise AebenchError(f"{path}: not what `aebench init` wrote; {mend(path)}")


def mend(path: Path) -> str:
    """What to do about a record that can't be read."""
    return f"restore it (git restore {path}), or delete it and run `aebench init --upgrade`"


def installed() -> str:
    """The installed version of aebench."""
    import importlib.metadata  # 11 ms, and `aebench --help` needs none of it

    return importlib.metadata.version("aebench")


def template() -> Path:
    """The folder with the files of a new workspace.

    A wheel has it in the package. Beside the package of a source checkout, which is what an
    editable install runs, lie the files themselves.
    """
    for folder in (PACKAGE / "template", PACKAGE.parent):
        if (folder / "dvc.yaml").is_file() and (folder / "plugins").is_dir():
            return folder
    raise AebenchError(f"{PACKAGE}/template: not there; pip install --force-reinstall aebench")


def shipped() -> dict[str, bytes]:
    """Name -> content of what is aebench's own in a workspace.

    dvc.yaml and its templates of plots, plug-ins, their page.
    """
    folder = template()
    paths = [folder / name for name in ("dvc.yaml", "docs/plugins.md", "docs/zoo/params.yaml")]
    paths += sorted((folder / ".dvc/plots").glob("*"))
    paths += sorted((folder / "plugins").rglob("*.py"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def warn_of_other_version(workspace: Workspace) -> None:
    """Say on standard error that the installed aebench ships other files than the workspace's."""
    try:
        record = read_record(workspace.root)
        if record is None or not outdated(record):
            return
        text = (
            f"this workspace has the files of aebench {record.version}, those of the installed "
            f"{installed()} differ; to see how, and to take over what nobody changed: "
            "aebench init --upgrade"
        )
    except AebenchError as error:
        text = str(error)
    print(f"aebench: warning: {text}", file=sys.stderr)


def outdated(record: Record) -> bool:
    """Whether this version ships something else under one of the record's names, or nothing."""
    now = {name: sha256(content) for name, content in shipped().items()}
    return any(now.get(name) != digest for name, digest in record.files.items())
