"""The values of score columns: numbers, words, structs and vectors; as Arrow arrays and as columns of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.core.errors import UserError

TYPES = {str(kind): kind for kind in (pa.float32(), pa.int32(), pa.int64(), pa.string())}  # the types of scores


def parts(name: str, values: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Return the table columns of a score: `name.part` for each field of a struct, none for a vector, else `name`."""
    if pa.types.is_struct(values.type):
        return {f"{name}.{part.name}": pc.struct_field(values, part.name) for part in values.type}
    return {} if is_vector(values.type) else {name: values}


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column of this type holds vectors."""
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def has_value(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return whether each row has a value, [N] booleans. A struct has a value if any of its fields does."""
    if not pa.types.is_struct(values.type):
        return pc.is_valid(values)
    found = pa.chunked_array([pa.array([False] * len(values), pa.bool_())])
    for part in values.type:
        found = pc.or_(found, pc.is_valid(pc.struct_field(values, part.name)))
    return found


def vector_bytes(values: pa.ChunkedArray) -> pa.Array:
    """Convert float16 vectors of one width, [N, D], to blobs of their bytes; nulls and non-finite vectors become null.

    Blobs have no fixed width, because a unit without any vector doesn't know D.
    """
    array = values.combine_chunks()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    flat = array.flatten().to_numpy(zero_copy_only=False)  # flatten omits nulls
    width = max(1, len(flat) // max(1, int(valid.sum())))
    halves = np.zeros((len(array), width), np.float16)
    halves[valid] = flat.reshape(-1, width)
    good = pa.array(valid & np.isfinite(halves).all(1))
    bitmap = good.buffers()[1]  # a boolean array's bits have the layout of a validity bitmap
    return pa.Array.from_buffers(pa.binary(2 * width), len(array), [bitmap, pa.py_buffer(halves)]).cast(pa.binary())


def value_array(
    values: np.ndarray[Any, Any] | pa.Array,
    valid: np.ndarray[Any, np.dtype[np.bool_]],
    kind: pa.DataType | None = None,
) -> pa.Array:
    """Convert a scorer's values to an Arrow array, with null where `valid` is false.

    [N] numbers become `kind`, or float32 if they are floats and `kind` is None; [N, D] becomes fixed-size lists of
    float16; Arrow arrays keep their type. `kind` is the type that the scorer declares: other numbers and words are cast
    to it. Raises `UserError` for values that can't be cast, including integers out of range.
    """
    try:
        array = _values(values, valid)
        if kind is None and isinstance(values, np.ndarray) and pa.types.is_floating(array.type):
            kind = pa.float32()
        if kind is None or array.type == kind or (is_vector(kind) and is_vector(array.type)):
            return array
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        fix = "make the type that the scorer's `values` declares equal to the type that it returns"
        given, line = values.type if isinstance(values, pa.Array) else values.dtype, str(error).splitlines()[0]
        raise UserError(f"a scorer declares {kind}, but returns {given}: {line}", fix=fix) from None


def _values(values: np.ndarray[Any, Any] | pa.Array, valid: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    mask = pa.array(~valid)
    if isinstance(values, pa.StructArray):
        columns = [pc.if_else(mask, pa.scalar(None, part.type), part) for part in values.flatten()]
        return pa.StructArray.from_arrays(columns, fields=list(values.type))
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = pa.array(values.astype(np.float16).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)
    array = pa.array(values) if isinstance(values, np.ndarray) else values
    return pc.if_else(mask, pa.scalar(None, array.type), array)
