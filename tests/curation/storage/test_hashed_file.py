"""A file that is hashed while it is written."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from curation.storage import hashed_file
from curation.storage.hashed_file import rounds, write_hashed

PIECES = [b"", b"one", memoryview(b"two"), bytes(3000), memoryview(bytes(100))[7:9], b"end"]


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("number", [0, 1, len(PIECES)])
def test_what_is_written_is_hashed(size: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed_file, "ROUND", size)
    pieces, whole = PIECES[:number], b"".join(PIECES[:number])
    assert write_hashed(tmp_path / "a", iter(pieces)) == (sha256(whole).hexdigest(), len(whole))
    assert (tmp_path / "a").read_bytes() == whole


def test_rounds_are_full_but_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed_file, "ROUND", 4)
    assert list(rounds([b"ab", b"cd", b"efghi", b"j"])) == [[b"ab", b"cd"], [b"efghi"], [b"j"]]


def test_an_error_of_the_pieces_is_raised(tmp_path: Path) -> None:
    def pieces() -> list[bytes]:
        raise LookupError("input")

    with pytest.raises(LookupError, match="input"):
        write_hashed(tmp_path / "a", (piece for piece in pieces()))
