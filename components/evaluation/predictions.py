"""What a model answered to every row of a split, as the compact file that travels beside an evaluation report.

The gate pairs two of them row by row. Runs no model and judges nothing.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.components.contracts.errors import ContractError

__all__ = ["PREDICTIONS", "Predictions"]

PREDICTIONS = "predictions.parquet"
SCHEMA = pa.schema({"id": pa.string(), "label": pa.int16(), "predicted": pa.int16(), "confidence": pa.float32(),
                    "label_probability": pa.float32()})


@dataclass(frozen=True)
class Predictions:
    """One answer per row, in the order of the split.

    Attributes:
        ids: N row ids.
        labels: (N,) int16, the true classes.
        predicted: (N,) int16, the classes answered.
        confidence: (N,) float32, the probability given to the predicted class.
        label_probability: (N,) float32, the probability given to the true class.
    """

    ids: list[str]
    labels: npt.NDArray[np.int16]
    predicted: npt.NDArray[np.int16]
    confidence: npt.NDArray[np.float32]
    label_probability: npt.NDArray[np.float32]

    @classmethod
    def of(cls, rows: pa.Table, probabilities: npt.NDArray[np.float32]) -> "Predictions":
        """Pair the rows of a split with what a model said about them.

        Args:
            rows: N rows with the columns `id` and `label`.
            probabilities: (N, classes) float32.

        Raises:
            ContractError: a probability is no finite number, so that the model computes nothing useful.
        """
        labels = rows["label"].to_numpy().astype(np.int16)
        broken = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        if len(broken):
            first = rows["id"][int(broken[0])].as_py()
            raise ContractError(f"the model answers {len(broken):,} of {len(labels):,} rows with NaN or infinity, the "
                                f"first is {first!r}: its weights have diverged, train it again")
        every = np.arange(len(labels))
        predicted = probabilities.argmax(axis=1).astype(np.int16)
        return cls(rows["id"].to_pylist(), labels, predicted, probabilities[every, predicted],
                   probabilities[every, labels])

    @classmethod
    def load(cls, folder: Path | str) -> "Predictions":
        """Read the file beside an evaluation report.

        Raises:
            ContractError: it is missing or is no such file.
        """
        path = Path(folder) / PREDICTIONS
        if not path.is_file():
            raise ContractError(f"{folder} holds no {PREDICTIONS}: it was not written by evaluate")
        try:
            table = pq.read_table(path).cast(SCHEMA)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise ContractError(f"{path} is damaged: {error}") from error
        return cls(table["id"].to_pylist(), *(table[name].to_numpy() for name in SCHEMA.names[1:]))

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the predicted class is the true one."""
        return np.equal(self.labels, self.predicted)

    def to_parquet(self) -> bytes:
        """Return the file's bytes: about 12 B a row beside the ids."""
        columns = [self.ids, self.labels, self.predicted, self.confidence, self.label_probability]
        sink = io.BytesIO()
        pq.write_table(pa.table(columns, schema=SCHEMA), sink, compression="zstd")
        return sink.getvalue()
