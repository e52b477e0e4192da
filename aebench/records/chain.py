"""Whether the results of a run and seed belong together: one chain of images, weights and codes."""

from collections.abc import Mapping

from aebench.records.encode import EncodeRecord
from aebench.records.index import IndexRecord
from aebench.records.knn import KnnRecord
from aebench.records.prepare import DataRecord
from aebench.records.stress import StressRecord
from aebench.records.train import TrainRecord
from aebench.workspace import INDEX

Result = TrainRecord | EncodeRecord | KnnRecord | StressRecord | IndexRecord
StageResults = Mapping[str, Result]
RECORDS: dict[str, type[Result]] = {
    "train": TrainRecord,
    "encode": EncodeRecord,
    "knn": KnnRecord,
    "stress": StressRecord,
}


def kind_of(stage: str) -> type[Result]:
    """What its file holds: of a key of RECORDS, of `index-<name>`. KeyError for another."""
    return IndexRecord if stage.startswith(INDEX) else RECORDS[stage]


def chain_fault(stage: str, results: StageResults, data: DataRecord) -> str | None:
    """What is wrong with the result of a stage beside those before it; None if nothing is."""
    result = results[stage]
    before = {"train": None, "encode": "train"}.get(stage, "encode")
    if result.data_hash != data.data_hash:
        return f"the result of {stage} is of other images"
    match before and results.get(before), result:
        case TrainRecord() as train, EncodeRecord() as encode:
            if train.weights_hash != encode.weights_hash:
                return "the result of encode is of other weights"
        case EncodeRecord() as encode, KnnRecord() | StressRecord() | IndexRecord() as searched:
            if encode.codes_hash != searched.codes_hash:
                return f"the result of {stage} is of other codes"
    return None
