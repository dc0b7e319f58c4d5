"""A copy of a shard on disk: ranges come back as they were written, in any order."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from curation.core.errors import UserError
from curation.shards import tar_spool
from curation.shards.tar_spool import Spool

DATA = random.Random(0).randbytes(300_000)


def blocks(size: int) -> list[bytes]:
    return [DATA[at : at + size] for at in range(0, len(DATA), size)]


@pytest.mark.parametrize("size", [1000, 65_536, len(DATA)])
def test_ranges_come_back_while_blocks_are_appended(size: int) -> None:
    with Spool() as spool:
        for at, block in enumerate(blocks(size)):
            spool.append(block)
            assert spool.size == min((at + 1) * size, len(DATA))
            assert spool.read(spool.size - 10, 10) == DATA[spool.size - 10 : spool.size], "also what is not flushed"
        assert spool.read(7, 100_000) == DATA[7:100_007]
        assert b"".join(spool.blocks(5, 250_000, block=999)) == DATA[5:250_000]


def test_the_file_has_no_name_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spool(blocks(1000)):
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_with_the_fix() -> None:
    class Full:
        def write(self, block: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    spool = Spool()
    spool.close()
    spool._file = Full()  # type: ignore[assignment]
    with pytest.raises(UserError, match="No space left on device") as caught:
        spool.append(b"x")
    assert "TMPDIR" in caught.value.fix and tar_spool.tempfile.gettempdir() in str(caught.value)
