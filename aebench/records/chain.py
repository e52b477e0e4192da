"""Whether the results of a run and seed belong together: one chain of images, weights and codes."""

from collections.abc import Mapping

from aebench.records.encode import EncodeRecord
from aebench.records.knn import KnnRecord
from aebench.records.prepare import DataRecord
from aebench.records.train import TrainRecord

Result = TrainRecord | EncodeRecord | KnnRecord
StageResults = Mapping[str, Result]
RECORDS: dict[str, type[Result]] = {
    "train": TrainRecord,
    "encode": EncodeRecord,
    "knn": KnnRecord,
}


def chain_fault(stage: str, results: StageResults, data: DataRecord) -> str | None:
    """What is wrong with the result of a stage beside those before it; None if nothing is."""
    result = results[stage]
    before = {"encode": "train", "knn": "encode"}.get(stage)
    if result.data_hash != data.data_hash:
        return f"the result of {stage} is of other images"
    match before and results.get(before), result:
        case TrainRecord() as train, EncodeRecord() as encode:
            if train.weights_hash != encode.weights_hash:
                return "the result of encode is of other weights"
        case EncodeRecord() as encode, KnnRecord() as knn:
            if encode.codes_hash != knn.codes_hash:
                return "the result of knn is of other codes"
    return None
