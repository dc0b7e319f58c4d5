"""Typed readers for the JSON documents that the product writes and reads back.

    record = documents.read(store, f"units/{unit}.json", WriteRecord, fix)      # LedgerError where it is damaged
    record.manifest.sha256                                                      # typed, by attribute
    record["manifest"]["sha256"]                                                # plain JSON, by key

Unknown fields are kept, so a newer version's documents stay readable; optional fields that an older version did not
write get defaults. Everything else is an error of one line that names the object and the fields: a wrong type (strict:
"3" is not 3), a negative count, counts that don't add up, a key outside its folder, a repeated key.

Cost on one core: 9 us for the record of a score table; 15 us for the record of a write unit with one input and one
shard, and 5 us more for each further one. Half of it is a second parse that looks for repeated keys. 1 million records
take 9-20 s, compared with 1 million GETs.
"""

from curation.ledger.documents.base import (
    REPAIR,
    RESCORE,
    RESTORE,
    Document,
    find,
    parse,
    read,
    read_json,
    repair,
    strict_json,
)
from curation.ledger.documents.ledger import (
    CorpusPin,
    DataObject,
    ManifestPart,
    OutputShard,
    PlanDocument,
    PlanPage,
    ScoreRecord,
    SnapshotDocument,
    Tally,
    UnitCounts,
    WriteInput,
    WriteRecord,
    parse_unit_record,
    relative_url,
)

__all__ = [
    "REPAIR",
    "RESCORE",
    "RESTORE",
    "CorpusPin",
    "DataObject",
    "Document",
    "ManifestPart",
    "OutputShard",
    "PlanDocument",
    "PlanPage",
    "ScoreRecord",
    "SnapshotDocument",
    "Tally",
    "UnitCounts",
    "WriteInput",
    "WriteRecord",
    "base",
    "find",
    "learning",
    "ledger",
    "parse",
    "parse_unit_record",
    "read",
    "read_json",
    "relative_url",
    "repair",
    "strict_json",
]
