"""Object stores and local disk: one interface for S3, GCS, Azure, memory and directories; Parquet; DuckDB.

Everything that leaves this process for a store or a disk goes through here. Imports `core`."""

__all__ = [
    "parquet",
    "pinned_file",
    "store",
    "store_waits",
    "tables",
    "urls",
]
