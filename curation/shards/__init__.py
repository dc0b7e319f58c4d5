"""WebDataset shards and their contents: the tar format, images, captions; read strictly, under limits.

`unit_reader` reads one unit as Arrow tables. Imports `core` and `storage`."""

__all__ = [
    "confirm_damage",
    "contents",
    "images",
    "member_reader",
    "sample_reader",
    "tar",
    "tar_blocks",
    "tar_samples",
    "tar_writer",
    "unit_reader",
    "webdataset_io",
]
