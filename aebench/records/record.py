"""What all records share: strict reading, a format version, columns of results.csv."""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from aebench.errors import AebenchError, Damaged, is_machine_failure
from aebench.workspace import json_bytes, read_bytes, sha256


class Part(BaseModel):
    """A piece of a record: no unknown keys, no NaN, no infinity."""

    # Built when first used: a stage imports more records than it reads.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


class Record(Part):
    """The content of one JSON file. `format` is raised when a key changes its name or meaning."""

    FORMAT: ClassVar[int] = 1
    format: int = Field(default=0, json_schema_extra={"column": False})

    @classmethod
    def read(cls, path: Path, made_by: str) -> Self:
        """The file's content; that of an older version is upgraded.

        AebenchError that names the command which makes the file: where it is not there, is not
        whole, or is of a later version of aebench.
        """
        return cls.read_with_hash(path, made_by)[0]

    @classmethod
    def read_with_hash(cls, path: Path, made_by: str) -> tuple[Self, str]:
        """As `read`, and the SHA-256 of the very bytes that were read."""
        try:
            content = read_bytes(path)
        except FileNotFoundError:
            raise AebenchError(f"{path}: not there; run `{made_by}` first") from None
        except OSError as error:
            if is_machine_failure(error):
                raise
            raise AebenchError(f"{path}: not readable ({error.strerror}); mend that") from None
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Damaged(path, f"not JSON ({error})", f"run `{made_by}` again") from None
        return cls.of(value, path, made_by), sha256(content)

    @classmethod
    def of(cls, content: Any, path: Path, made_by: str) -> Self:
        """The record that the JSON value `content` of the file at `path` holds."""
        found = content.get("format", 1) if isinstance(content, dict) else None
        if not isinstance(found, int):
            raise Damaged(path, "not a record of aebench", f"run `{made_by}` again")
        if found > cls.FORMAT:
            raise AebenchError(
                f"{path}: of a later aebench (format {found}, this one reads up to {cls.FORMAT}); "
                "install that: pip install -U aebench"
            )
        content = checked(content, path, made_by)
        try:
            for version in range(found, cls.FORMAT):
                content = cls.upgraded(content, version, path)
            return cls.model_validate(content | {"format": cls.FORMAT})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Damaged(path, fault(error), f"run `{made_by}` again") from None

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int, path: Path) -> dict[str, Any]:
        """Content of format `version` in the form of the next; `path`: where it was read."""
        return content

    def json_bytes(self) -> bytes:
        """Readable JSON with a final newline."""
        return json_bytes(self.model_dump(mode="json") | {"format": self.FORMAT})


class Planned(Record):
    """A result that says of which plan it is, and by which bytes its files are known."""

    plan_hash: str = Field(json_schema_extra={"column": False})  # SHA-256 of the plan's file
    # File -> SHA-256, of those that the stage wrote; None: of an earlier version.
    files: dict[str, str] | None = Field(default=None, json_schema_extra={"column": False})

    @field_validator("plan", mode="before", check_fields=False)
    @classmethod
    def known_plan(cls, plan: Any) -> Any:
        """The plan that the result holds, if its format, which stays, is the known one."""
        if not isinstance(plan, dict):
            return plan
        if plan.get("format", Record.FORMAT) != Record.FORMAT:
            raise ValueError(f"of a later aebench (format {plan['format']})")
        return plan | {"format": Record.FORMAT}

    def json_bytes(self) -> bytes:
        """With its own `checksum`, which `checked` looks at."""
        content = json.loads(super().json_bytes())
        return json_bytes(content | {CHECKSUM: sha256(json_bytes(content))})

    def file_hash(self, name: str) -> str | None:
        """The SHA-256 that was recorded of a file; None of an earlier version."""
        return (self.files or {}).get(name)

    def is_of(self, plan: bytes | str) -> bool:
        """Whether it is the result of this plan: the content of its file, or that one's SHA-256."""
        return self.plan_hash == (plan if isinstance(plan, str) else sha256(plan))


class StageResult(Planned):
    """Of one run and seed. `status`: `ok`, `failed: <reason>`, or see `as_of`.

    All figures are None where it is not ok.
    """

    status: str
    data_hash: str = Field(json_schema_extra={"column": False})

    @property
    def is_elsewhere(self) -> bool:
        """Whether nothing was computed, as the seed changes nothing: see `as_of`."""
        return self.status.startswith(AS_OF)


AS_OF = "as of seed "


def as_of(seed: int) -> str:
    """The status of the results of all seeds but the one, where the seed changes nothing."""
    return f"{AS_OF}{seed}, which changes nothing"


CHECKSUM = "checksum"  # of a result: SHA-256 of the JSON without it


def checked(value: dict[str, Any], path: Path, made_by: str) -> dict[str, Any]:
    """The JSON value of the file at `path`, without its checksum.

    AebenchError where that is another one, and for a result that holds another plan than the one
    whose hash it says. Both are new in 0.2.0: where they are not there, nothing is said.
    """
    content = {key: item for key, item in value.items() if key != CHECKSUM}
    plan, wrong = value.get("plan"), None
    try:
        if CHECKSUM in value and value[CHECKSUM] != sha256(json_bytes(content)):
            wrong = "its content is not what its checksum says"
        elif isinstance(plan, dict) and value.get("plan_hash") != sha256(json_bytes(plan)):
            wrong = "the plan in it is not the one that it names"
    except (ValueError, RecursionError):  # NaN, which no stage writes
        wrong = "it holds what no stage writes"
    if wrong:
        raise Damaged(path, f"damaged or edited: {wrong}", f"run `{made_by}` again")
    return content


def fault(error: Exception) -> str:
    """The first thing wrong with a file's content: its place and what was got."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}, got {str(first['input'])[:60]!r}"
    return f"a broken record ({type(error).__name__}: {error})"


def column_names(kind: type[Part]) -> list[str]:
    """The fields that are not marked as no column of results.csv."""
    extras = {name: field.json_schema_extra for name, field in kind.model_fields.items()}
    return [n for n, e in extras.items() if not (isinstance(e, dict) and e.get("column") is False)]


def scalars(part: Part, prefix: str = "") -> dict[str, Any]:
    """Column -> value, of the fields that hold one value."""
    values = {prefix + name: getattr(part, name) for name in column_names(type(part))}
    return {k: v for k, v in values.items() if not isinstance(v, list | dict | BaseModel)}


def internal(default: Any = ...) -> Any:
    """A field that is no column of results.csv."""
    return Field(default=default, json_schema_extra={"column": False})
