"""Edit lists: what a person, a model or a run decided about single samples, as one Parquet table.

A row is one edit. `uid`: the sample. `verb`: `keep`, `drop`, `weight`, `replace` or `add`. `field` (of `replace`): a
key of the sample's json, or `caption`. `value`: the new value, as JSON text for `replace` and as a number above 0 for
`weight`. `from`: the value before, if known, in the same notation. `by`: the operation that made the edit, such as
`review`, or `captions@<sha256>` with the sha256 of the model that it used. `at_run`: the run or the queue that it
belongs to. `add` names a sample of a marked shard, whose URL is the `value`. A part that a verb does not have is null.

The reader is strict: an unknown column, a value of a wrong kind or two contradicting edits of one sample are an error
of one line that names the URL and the row. The writer sorts the rows and leaves repeated ones out, so that equal edits
give equal bytes. Cost: 5 us of CPU a row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.core.errors import EditListError, NotFoundError
from curation.core.origins import PROVENANCE
from curation.shards.contents import MAX_JSON_DEPTH, depth
from curation.storage.parquet import to_parquet
from curation.storage.store import StoreOptions, open_object
from curation.storage.tables import scratch

EDIT_SCHEMA = pa.schema([(name, pa.string()) for name in ("uid", "verb", "field", "value", "from", "by", "at_run")])
VERBS = ("add", "drop", "keep", "replace", "weight")
CAPTION = "caption"  # the field of `replace` that stands for the caption, wherever the sample has it

MAX_ROWS = 50_000_000
MAX_BYTES = 4 << 30  # of the file, and of the values that it decodes to
MAX_FIELD = 256  # characters of `field`, `by` and `at_run`
MAX_URL = 4096  # characters of the `value` of `add`
MAX_VALUE = 64 << 10  # bytes of `value` and `from`
MAX_DEPTH = MAX_JSON_DEPTH - 10  # of a value, below the sample's json and its provenance
MEMORY = "2GB"  # of DuckDB, beyond which it spills to local disk

FIX = "correct this row, and write the list with the columns " + ", ".join(EDIT_SCHEMA.names)
_PLAIN = r'\A"[^"\\\x00-\x1f]*"\z'  # a JSON string without escapes: valid, and the shortest notation
_CONTROL = r"[\x00-\x1f\x7f]"
#: What an edit is about: two edits of one sample and slot contradict each other unless their `VERDICT` is the same.
SLOT = "CASE WHEN verb IN ('keep', 'drop') THEN 'decision' WHEN verb = 'replace' THEN 'replace.' || field ELSE verb END"
VERDICT = """CASE WHEN verb IN ('keep', 'drop') THEN verb
    WHEN verb = 'weight' THEN TRY_CAST(value AS FLOAT)::VARCHAR ELSE coalesce(value, '') END"""


@dataclass(frozen=True)
class EditList:
    """An edit list: its rows (`EDIT_SCHEMA`, sorted), and its bytes, which the snapshot stores."""

    table: pa.Table
    data: bytes

    suffix = "parquet"  # of the snapshot's copy

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes."""
        return sha256(self.data).hexdigest()


def read_edit_list(url: str, options: StoreOptions | None = None) -> EditList:
    """Read the edit list at a URL. Raises `EditListError`, and `StoreError` if the store does not answer."""
    store, key = open_object(url, options)
    try:
        size = store.size(key)
        if size > MAX_BYTES:
            raise EditListError(f"{url}: {size:,} bytes, more than {MAX_BYTES:,}", fix="divide the list")
        return store.get_parsed(key, lambda data: parse_edit_list(data, url))
    except NotFoundError:
        raise EditListError(f"{url} does not exist", fix="check the URL, or remove it from `edits:`") from None


def parse_edit_list(data: bytes, url: str) -> EditList:
    """Parse the bytes of an edit list; `url` is named in errors. Raises `EditListError`."""
    return EditList(normalised(_decoded(data, url), url), data)


def write_edit_list(url: str, edits: pa.Table, options: StoreOptions | None = None) -> EditList:
    """Write an edit list to a URL, and return it. `edits`: rows of `EDIT_SCHEMA` in any order.

    Equal edits give equal bytes. Raises `EditListError` for a row that the reader would refuse, and writes nothing.
    """
    found = edit_list(edits, url)
    store, key = open_object(url, options)
    store.put(key, found.data)
    return found


def edit_list(edits: pa.Table, name: str = "the edits") -> EditList:
    """Return checked, sorted edits with their bytes. Raises `EditListError`; the message begins with `name`."""
    table = normalised(edits, name)
    return EditList(table, to_parquet(table, checksums=True))


def normalised(edits: pa.Table, name: str) -> pa.Table:
    """Check edits and return them sorted, each once, with values in their shortest notation.

    `name`: the list in the message of an `EditListError`. Rows count from 0.
    """
    table = _with_schema(edits, name)
    table = _shortest(table, "value", name)
    table = _shortest(table, "from", name)
    with scratch(MEMORY, "an edit list") as db:
        db.register("incoming", table.append_column("row", pa.array(np.arange(table.num_rows))))
        wrong = db.execute(_WRONG).fetchone()
        if wrong:
            raise EditListError(f"{name}: row {wrong[0]:,}: {wrong[1]}", fix=FIX)
        weighed = "CASE WHEN verb = 'weight' THEN {0}::FLOAT::VARCHAR ELSE {0} END AS {0}"
        values = ", ".join(weighed.format(f'"{part}"') for part in ("value", "from"))
        found = db.sql(f'SELECT DISTINCT uid, verb, field, {values}, "by", at_run FROM incoming ORDER BY ALL')
        table = found.to_arrow_table().cast(EDIT_SCHEMA).combine_chunks()
        db.register("edits", table)
        both = db.execute(
            f"SELECT uid, {SLOT} AS slot FROM edits GROUP BY uid, slot HAVING min({VERDICT}) <> max({VERDICT}) "
            "ORDER BY uid, slot LIMIT 1"
        ).fetchone()
    if both:
        text = f"{name}: two edits of uid {both[0]} contradict each other ({both[1]})"
        raise EditListError(text, fix="remove one of the two rows")
    return table


def _valid(column: str, most: int) -> str:
    return f'length("{column}") BETWEEN 1 AND {most} AND NOT regexp_matches("{column}", \'{_CONTROL}\')'


def _number(column: str) -> str:
    return f'coalesce(TRY_CAST("{column}" AS FLOAT) > 0 AND TRY_CAST("{column}" AS FLOAT) < \'inf\'::FLOAT, false)'


#: The first row that is wrong, and why.
_WRONG = f"""
    SELECT row, CASE
        WHEN uid IS NULL OR NOT regexp_full_match(uid, '[0-9a-f]{{32}}') THEN 'uid is not 32 hexadecimal characters'
        WHEN verb IS NULL OR verb NOT IN {VERBS} THEN 'verb is not one of {", ".join(VERBS)}'
        WHEN verb <> 'replace' AND field IS NOT NULL THEN 'only the verb replace has a field'
        WHEN verb IN ('keep', 'drop') AND (value IS NOT NULL OR "from" IS NOT NULL)
            THEN 'only the verbs replace, weight and add have a value'
        WHEN verb = 'add' AND (value IS NULL OR NOT ({_valid("value", MAX_URL)}) OR NOT ends_with(value, '.tar'))
            THEN 'the value of add is not the URL of a shard (.tar)'
        WHEN verb = 'add' AND "from" IS NOT NULL THEN 'add has no from'
        WHEN verb = 'weight' AND NOT {_number("value")} THEN 'value is not a number above 0'
        WHEN verb = 'weight' AND "from" IS NOT NULL AND NOT {_number("from")} THEN 'from is not a number above 0'
        WHEN verb = 'replace' AND (field IS NULL OR NOT ({_valid("field", MAX_FIELD)}))
            THEN 'field is not the name of a json field ({MAX_FIELD} characters at most)'
        WHEN field = '{PROVENANCE}' THEN 'the field {PROVENANCE} can not be replaced'
        WHEN verb = 'replace' AND value IS NULL THEN 'replace has no value'
        WHEN field = '{CAPTION}' AND NOT (starts_with(value, '"') AND trim(value, '" ') <> '')
            THEN 'the value of a caption is not a JSON string with text'
        WHEN "by" IS NOT NULL AND NOT ({_valid("by", MAX_FIELD)}) THEN 'by is empty, too long or has control characters'
        WHEN at_run IS NOT NULL AND NOT ({_valid("at_run", MAX_FIELD)})
            THEN 'at_run is empty, too long or has control characters'
        END AS wrong
    FROM incoming WHERE wrong IS NOT NULL ORDER BY row LIMIT 1"""


def _decoded(data: bytes, url: str) -> pa.Table:
    """Decode Parquet within the limits: columns stay dictionaries until the size of their values is known."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if file.metadata.num_rows > MAX_ROWS:
            raise EditListError(
                f"{url}: {file.metadata.num_rows:,} rows, more than {MAX_ROWS:,}", fix="divide the list"
            )
        _expect_columns(file.schema_arrow.names, url)
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, read_dictionary=EDIT_SCHEMA.names)
        table = file.read(use_threads=False)
        table.validate(full=True)  # Parquet's strings may be no UTF-8
    except (pa.ArrowException, OSError) as error:
        text = f"{url} is not a Parquet file that can be read: {str(error).splitlines()[0]}"
        raise EditListError(text, fix="write the list again") from None
    size = sum(_decoded_bytes(chunk) for column in table.columns for chunk in column.chunks)
    if size > MAX_BYTES:
        raise EditListError(f"{url}: {size:,} bytes of values, more than {MAX_BYTES:,}", fix="divide the list")
    return table


def _decoded_bytes(chunk: pa.Array) -> int:
    if not pa.types.is_dictionary(chunk.type):
        return int(chunk.nbytes)
    lengths = pc.binary_length(chunk.dictionary)
    return int(pc.sum(pc.take(lengths, chunk.indices).cast(pa.int64())).as_py() or 0)


def _expect_columns(names: list[str], url: str) -> None:
    if len(set(names)) < len(names) or set(names) != set(EDIT_SCHEMA.names):
        odd = sorted(set(names) ^ set(EDIT_SCHEMA.names)) or ["repeated names"]
        text = f"{url}: the columns are not those of an edit list: {', '.join(repr(name)[:40] for name in odd[:3])}"
        raise EditListError(text, fix=f"write the list with the columns {', '.join(EDIT_SCHEMA.names)}")


def _with_schema(edits: pa.Table, name: str) -> pa.Table:
    """The table's columns in their order, as strings."""
    _expect_columns(edits.column_names, name)
    for column in EDIT_SCHEMA.names:
        kind = edits.schema.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise EditListError(f"{name}: column {column} is {kind}, not string", fix="write all columns as strings")
    return edits.select(EDIT_SCHEMA.names).cast(EDIT_SCHEMA)


def _shortest(table: pa.Table, column: str, name: str) -> pa.Table:
    """Write the JSON texts of `replace` in their shortest notation. Raises `EditListError` for text that is no JSON."""
    values = table.column(column).combine_chunks()
    values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    where = pc.and_(pc.equal(table.column("verb"), "replace"), pc.is_valid(values)).combine_chunks()
    where = pc.fill_null(where, False)
    encoded = pc.if_else(where, values, None).dictionary_encode()
    odd = pc.invert(pc.match_substring_regex(encoded.dictionary, _PLAIN))
    long = pc.greater(pc.binary_length(encoded.dictionary), MAX_VALUE)
    if not (pc.any(odd, min_count=0).as_py() or pc.any(long, min_count=0).as_py()):
        return table
    texts: list[str | None] = encoded.dictionary.to_pylist()
    for place in pc.indices_nonzero(pc.or_(odd, long)).to_pylist():
        try:
            texts[place] = shortest_json(texts[place])
        except ValueError as error:
            row = pc.index(encoded.indices, place).as_py()
            raise EditListError(f"{name}: row {row:,}: {column} {error}", fix=FIX) from None
    decoded = pa.array(texts, pa.string()).take(encoded.indices)
    return table.set_column(table.column_names.index(column), column, pc.if_else(where, decoded, values))


def shortest_json(text: str | None) -> str:
    """Return a JSON text in its shortest notation, keys sorted. Raises `ValueError` for what no sample's json can hold.

    The message continues a sentence whose subject is the text.
    """
    if text is None or len(text.encode()) > MAX_VALUE:
        raise ValueError(f"has more than {MAX_VALUE:,} bytes")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if depth(value) > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH}")
    try:
        return _shortest_text(value)
    except (ValueError, RecursionError):
        raise ValueError("has half of a surrogate pair, or a number that JSON can't hold") from None


def json_value(text: str) -> Any:
    """Return the value of a JSON text that the reader accepted."""
    return json.loads(text)


def _shortest_text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    text.encode()  # raises for half of a surrogate pair
    return text


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
