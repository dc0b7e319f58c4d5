"""Probabilities of a model that is not ours: a Parquet file with a row a sample, pinned by its sha256.

Columns: `uid` (string) and `probabilities` (a list of K numbers, in the order of the classes). The classes are named in
the file's key-value metadata (`classes`, a JSON list of names) or in the recipe.
Memory: 8 bytes and 4 K a row in each worker, 0.5 GB for 10 million rows of 10 classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.core.distributions import flawed
from curation.core.errors import PinnedFileError
from curation.models.hash_keys import hash_keys
from curation.storage.pinned_file import PinnedFile

if TYPE_CHECKING:
    from curation.storage.store import StoreOptions

Array = np.ndarray[Any, Any]

FIX = "write a Parquet file with the columns `uid` (string) and `probabilities` (list of numbers), a row a sample"
ABSENT, FLAWED = "no_probabilities", "bad_probabilities"


@dataclass(frozen=True)
class ProbabilityFile(PinnedFile):
    """A Parquet file of probabilities."""

    folder: ClassVar[str] = "probabilities"
    suffix: ClassVar[str] = ".parquet"


class ProbabilityTable:
    """A loaded table. `classes` is empty where neither the file nor the recipe names them; `width` is K."""

    def __init__(self, keys: Array, probabilities: Array, classes: Sequence[str]) -> None:
        order = np.argsort(keys, kind="stable")
        self.keys, self.probabilities = keys[order], probabilities[order]
        self.classes, self.width = list(classes), probabilities.shape[1]

    def posterior(self, uids: Sequence[str | None]) -> tuple[Array, Mapping[int, str]]:
        """Return the distributions of samples, float64 [N, K], and row -> reason for those that have none.

        Rows with a reason are uniform. Numbers are divided by their sum, which rounding leaves next to 1.
        """
        found = np.full((len(uids), self.width), 1 / self.width)
        wanted = hash_keys(uids)
        places = np.searchsorted(self.keys, wanted).clip(max=max(0, len(self.keys) - 1))
        present = self.keys[places] == wanted if len(self.keys) else np.zeros(len(uids), bool)
        present &= np.array([bool(uid) for uid in uids], bool)
        rows = self.probabilities[places[present]].astype(np.float64)
        bad = flawed(rows)
        at = np.flatnonzero(present)
        found[at[~bad]] = rows[~bad] / rows[~bad].sum(axis=1, keepdims=True)
        reasons = dict.fromkeys(np.flatnonzero(~present).tolist(), ABSENT)
        return found, reasons | dict.fromkeys(at[bad].tolist(), FLAWED)


def check_table(file: ProbabilityFile, classes: Sequence[str], options: StoreOptions | None) -> None:
    """Raise `PinnedFileError` for columns or classes that `shared_table` refuses; reads the file's footer alone."""
    path = file.fetch(options)
    try:
        schema = pq.read_schema(path)
        _classes(schema.metadata or {}, classes)
        uid, numbers = schema.field("uid").type, schema.field("probabilities").type
        if not (pa.types.is_string(uid) or pa.types.is_large_string(uid)) or not hasattr(numbers, "value_type"):
            raise ValueError(f"`uid` is {uid} and `probabilities` is {numbers}")
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise _refused(file, error) from None


def _refused(file: ProbabilityFile, error: Exception) -> PinnedFileError:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return PinnedFileError(f"{file.url} has no usable probabilities: {line}", fix=FIX)


@lru_cache(maxsize=8)
def shared_table(file: ProbabilityFile, classes: tuple[str, ...], options: StoreOptions | None) -> ProbabilityTable:
    """Load a table, once a process for equal arguments. Raises `PinnedFileError` for a file of another form.

    classes: their names, where the file does not name them. Names in both must be equal.
    """
    path = file.fetch(options)
    try:
        parquet = pq.ParquetFile(path)
        names = _classes(parquet.schema_arrow.metadata or {}, classes)
        groups = range(parquet.num_row_groups)
        parts = [_part(parquet.read_row_group(group, columns=["uid", "probabilities"])) for group in groups]
        width = len(names) or max((int(lengths.max()) for _, lengths, _ in parts if len(lengths)), default=0)
        if width < 2:
            raise ValueError(f"its rows have {width} numbers, and a distribution has at least 2")
        keys = np.concatenate([keys for keys, _, _ in parts])
        if len(np.unique(keys)) < len(keys):
            raise ValueError("a uid occurs twice")
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise _refused(file, error) from None
    matrices = [_matrix(lengths, numbers, width) for _, lengths, numbers in parts]
    return ProbabilityTable(keys, np.concatenate(matrices), names)


def _classes(metadata: Mapping[bytes, bytes], classes: Sequence[str]) -> list[str]:
    """Return the names of the classes; none where neither the file nor the recipe has them. Raises `ValueError`."""
    found = json.loads(metadata.get(b"classes", b"[]"))
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError("`classes` in its metadata is not a JSON list of names")
    if found and classes and found != list(classes):
        raise ValueError(f"its metadata names the classes {', '.join(found)[:100]}, and the recipe names others")
    names = found or list(classes)
    if len(set(names)) < len(names):
        raise ValueError("two of its classes have the same name")
    return names


def _part(rows: pa.Table) -> tuple[Array, Array, Array]:
    """Return keys uint64 [n], the lengths of the lists int64 [n] (-1 for a null), and their numbers in one array."""
    uids, lists = rows.column("uid").to_pylist(), rows.column("probabilities").combine_chunks()
    wrong = next((uid for uid in uids if not isinstance(uid, str) or len(uid) != 32), None)
    if wrong is not None or uids.count(None):
        raise ValueError(f"{wrong!r} is not a uid, which has 32 hexadecimal characters")
    lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False)
    numbers = pc.fill_null(lists.flatten().cast(pa.float32()), np.nan).to_numpy(zero_copy_only=False)
    return hash_keys(uids), lengths.astype(np.int64), numbers


def _matrix(lengths: Array, numbers: Array, width: int) -> Array:
    """Return the lists as float32 [n, width]; a list of another length is NaN."""
    found = np.full((len(lengths), width), np.nan, np.float32)
    ends = np.cumsum(np.maximum(lengths, 0))
    whole = lengths == width
    places = (ends[whole] - width)[:, None] + np.arange(width)
    found[whole] = numbers[places]
    return found
