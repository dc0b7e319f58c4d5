"""The face that fsspec sees: the same bytes, and the same patience."""

from __future__ import annotations

import itertools
import random

from broken_s3 import BrokenS3, store_of

from curation.storage.fsspec_adapter import StoreFileSystem

DATA = random.Random(0).randbytes(300_001)


def test_consumers_wait_as_long(server: BrokenS3) -> None:
    """Through the face of fsspec, whose requests obstore itself repeats, in real seconds."""
    server.objects["/bucket/p/there"] = DATA
    turns = itertools.count(1)
    server.trouble = lambda method, path: "busy" if next(turns) % 4 else ""
    assert StoreFileSystem(store_of(server)).cat_file("there") == DATA
    assert len(server.requests) >= 4
