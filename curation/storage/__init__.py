"""Object stores and local disk: one interface to S3, GCS, Azure, memory and directories; Parquet; DuckDB.

All data that leaves this process for a store or a disk passes through this room. Imports `core`."""

__all__ = [
    "hashed_file",
    "parquet",
    "pinned_file",
    "probe",
    "store",
    "store_waits",
    "tables",
    "urls",
]
