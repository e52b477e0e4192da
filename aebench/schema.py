"""The schema of params.yaml: every key, its type and its range."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

# Folders and files are called after runs and data sets: file systems end names at 255 bytes.
LONGEST = 100
# Of an index, without the hyphen that follows a run's name in that of a stage.
INDEX_NAME = rf"^[a-z0-9][a-z0-9_]{{0,{LONGEST - 1}}}$"
RUN_NAME = rf"^[a-z0-9][a-z0-9_-]{{0,{LONGEST - 1}}}$"
DATASET_NAME = rf"^[A-Za-z0-9][A-Za-z0-9 ._-]{{0,{LONGEST - 1}}}$"
Metric = Literal["l2", "cosine", "whitened-cosine"]
Backend = Literal["faiss", "sklearn"]


def one_line(text: str) -> str:
    """The text. An error where a report has no room for it, or it says nothing."""
    if not text.isprintable() or not 0 < len(text.strip()) <= len(text) <= LONGEST:
        allowed = "a line of at most {most} printable characters"
        raise PydanticCustomError("one_line", allowed, {"most": LONGEST})
    return text


class Section(BaseModel):
    """Strict: no coercion (`100.0` is not an integer), no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Recipe(Section):
    """The training recipe. A description is how the report's conditions say the value."""

    # A further key gets a neutral default, one that trains as if the key did not exist: at it the
    # key stands in no plan file, so older results stay current. It is never changed later, which
    # would change results without a word; take a new key.
    epochs: Annotated[int, Field(ge=0, description="epochs {}")]
    batch_size: Annotated[int, Field(ge=1, description="batch {}")]
    learning_rate: Annotated[float, Field(gt=0, description="peak rates {} (AdamW)")]
    muon_learning_rate: Annotated[
        float,
        Field(
            gt=0,
            description="{} (Muon: matrices and kernels of at most 128 rows or columns; Shampoo: "
            "of 513 to 1,024)",
        ),
    ]
    weight_decay: Annotated[float, Field(ge=0, description="weight decay {}")]
    horizontal_flip: Annotated[bool, Field(description="horizontal flips {}")]
    # That train one model together, each on its part of every batch.
    processes: Annotated[int, Field(ge=1, description="{} processes")] = 1


class Knn(Section):
    """The search and its vote."""

    k: Annotated[int, Field(ge=1)]
    metric: Metric
    backend: Backend


class Run(BaseModel):
    """One entry under `runs`: what it pins. Further keys are options of its model."""

    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)

    model: str
    latent: Annotated[int, Field(ge=1)] | None = None
    depth: Annotated[int, Field(ge=1)] | None = None
    train: dict[str, Any] = {}
    knn: dict[str, Any] = {}
    weights: str | None = None  # a file in the workspace: see `weights_file`
    # How its settings were chosen, for whoever reads the report: `12 settings, on holdout`.
    trials: Annotated[str, AfterValidator(one_line)] | None = None


class Params(Section):
    """params.yaml."""

    dataset: Annotated[str, StringConstraints(pattern=DATASET_NAME)]
    image_size: Annotated[int, Field(ge=8)] | None
    channels: Literal[1, 3] | None
    # The share of the training images that takes the place of the test images.
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = None
    latent: Annotated[int, Field(ge=1)]
    depth: Annotated[int, Field(ge=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    train: Recipe
    knn: Knn
    search: dict[str, str] = {}  # approximate indexes: name -> FAISS's factory string
    runs: Annotated[dict[str, Run], Field(min_length=1)]  # names: see key_fault
