"""Headers of tar members: numbers, names, types, and every damaged bit."""

from __future__ import annotations

import gzip
import random
import tarfile
from collections import Counter

import pytest
from sampling import one_in
from tar_archives import (
    FORMATS,
    LONG,
    WHOLE,
    archive,
    assert_nothing_silent,
    cut_in_blocks,
    flip,
    header_blocks,
    of_infos,
    read,
    reasons,
    refusal,
    rewrite_size,
    shard,
    special,
)

from curation.core.errors import TarError
from curation.shards.tar_samples import read_samples


def test_v7_headers_and_the_signs_of_old_writers() -> None:
    data = bytearray(archive([("a.jpg", b"1"), ("a.txt", b"2")]))
    for at in (0, 1024):
        data[at + 156] = 0  # v7 has no type,
        data[at + 257 : at + 512] = bytes(255)  # and no magic
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%6o\0 " % sum(data[at : at + 512])  # spaces before the digits
    assert reasons(bytes(data)) == {"a": None}


def test_base_256_sizes() -> None:
    data = archive([("a.jpg", b"12345"), ("a.txt", b"2")])
    assert reasons(rewrite_size(data, b"\x80" + (5).to_bytes(11, "big"))) == {"a": None}
    assert refusal(rewrite_size(data, b"\x80" + (5 << 60).to_bytes(11, "big"))) == "tar_truncated"
    assert refusal(rewrite_size(data, b"\xff" * 12)) == "tar_bad_header"


NOT_OCTAL = [
    b"0000_0005\0\0\0",
    b"+0000000005\0",
    b"-0000000005\0",
    b"0x000000005\0",
    b"00000000009\0",
    b"5\x004".ljust(12, b"\0"),
]


NOT_OCTAL += [b"\t0000000005\0", b"0000 000005\0", b"\0" * 12, b" " * 12]


@pytest.mark.parametrize("field", NOT_OCTAL)
def test_only_octal_digits_are_a_number(field: bytes) -> None:
    assert refusal(rewrite_size(archive([("a.jpg", b"12345"), ("a.txt", b"2")]), field)) == "tar_bad_header"


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_only_regular_files(kind: bytes) -> None:
    data = of_infos(special("dir", type=tarfile.DIRTYPE), special("a.jpg", type=kind, linkname="/etc/passwd"),
                    special("a.txt", size=3), special("pipe", type=kind))  # fmt: skip
    assert reasons(data) == {"a": "not_regular_file", "pipe": "not_regular_file"}


@pytest.mark.parametrize("fmt", ["gnu", "pax"])
def test_names_that_are_not_utf8_nul_or_endless(fmt: str) -> None:
    bad = LONG + "a\udcff"
    assert (
        list(reasons(of_infos(special(bad + ".jpg"), special("b" * 5000 + ".txt"), fmt=fmt)).values())
        == ["unsafe_name"] * 2
    )
    assert all(
        key.isascii() and key.isprintable() and len(key) <= 4200 for key in reasons(of_infos(special(bad), fmt=fmt))
    )
    if fmt == "pax":
        assert list(reasons(of_infos(special("é\0b.jpg"), fmt=fmt)).values()) == ["unsafe_name"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "tar_empty"),
        (bytes(10240), "tar_empty"),
        (b"<html><body>403 Forbidden</body></html>", "tar_not_a_tar"),
        (b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>".ljust(2000), "tar_not_a_tar"),
        (gzip.compress(random.Random(0).randbytes(3000)), "tar_not_a_tar"),
        (b"\0" * 100, "tar_not_a_tar"),
        (WHOLE + WHOLE, "tar_trailing_data"),
        (WHOLE + b"x", "tar_trailing_data"),
        (WHOLE + bytes(2 << 20), "tar_truncated"),
        (WHOLE[:2560] + bytes(512) + WHOLE, "tar_trailing_data"),
        (WHOLE[:2560] + b"x" * 512 + bytes(1024), "tar_bad_header"),
        (WHOLE[:2560] + bytes(512), "tar_truncated"),
        (WHOLE[:700], "tar_truncated"),
        (of_infos(special("a.jpg", type=b"S")), "tar_unsupported"),
        (of_infos(special("a.jpg", type=b"V")), "tar_unsupported"),
        (of_infos(special("a.jpg", type=b"M")), "tar_unsupported"),
        (of_infos(special("a.jpg", pax_headers={"GNU.sparse.major": "1"}), fmt="pax"), "tar_unsupported"),
        (of_infos(special("a.jpg", pax_headers={"foo": "1"}), fmt="pax"), "tar_bad_header"),
        (of_infos(special("a.jpg", pax_headers={"comment": "x" * (1 << 20)}), fmt="pax"), "tar_header_too_large"),
        (archive([("n" * (1 << 20), b"")], "gnu"), "tar_header_too_large"),
        (archive([(LONG + "a.jpg", b"")], "gnu")[:1024] + bytes(1024), "tar_bad_header"),
        (archive([(LONG + "a.jpg", b"")], "gnu")[:1024] + archive([("b.jpg", b"")]), "tar_bad_header"),
        (archive([(LONG + "a.jpg", b"")], "gnu")[:1024] * 2 + WHOLE, "tar_bad_header"),
    ],
)  # fmt: skip
def test_refused(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


def test_compression_is_named() -> None:
    with pytest.raises(TarError, match="gzip"):
        read(gzip.compress(WHOLE))


def test_bytes_received_must_equal_the_size() -> None:
    end = WHOLE.rstrip(b"\0") + bytes(4000)
    for size, reason in [
        (len(end) + 512, "tar_truncated"),
        (len(end) - 512, "tar_trailing_data"),
        (900, "tar_truncated"),
    ]:
        with pytest.raises(TarError) as caught:
            list(read_samples(cut_in_blocks(end, 512), size))
        assert caught.value.reason == reason


def test_a_lying_size_costs_no_memory() -> None:
    assert refusal(rewrite_size(WHOLE, b"\x80" + (1 << 50).to_bytes(11, "big"))) == "tar_truncated"


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_bit_of_every_header(fmt: str) -> None:
    members = shard(2, fmt)
    data = archive(members, fmt)[: 512 * 52].rstrip(b"\0")
    data += bytes(-len(data) % 512 + 1024)
    blocks = header_blocks(data, members)
    assert len(blocks) == {"ustar": 6, "gnu": 18, "pax": 18}[fmt] + 2
    outcomes: Counter[str] = Counter()
    for at in blocks:
        written = len(data[at : at + 512].rstrip(b"\0"))
        for i in range(512):
            for bit in range(8 if i < written + 2 else 1):  # each bit of what is not zero, one a byte of the rest
                outcomes[assert_nothing_silent(flip(data, at + i, bit), members)] += 1
    assert outcomes["error"] > 0.5 * outcomes.total()
    assert outcomes["misnamed"] == 0 if fmt == "ustar" else outcomes["misnamed"] < 0.002 * outcomes.total()


@pytest.mark.slow
@pytest.mark.parametrize("fmt", one_in(3, FORMATS))
def test_bits_of_every_header_of_a_hundred_samples(fmt: str) -> None:
    rng = random.Random(fmt)
    members = shard(100, fmt)
    data = archive(members, fmt)
    for at in header_blocks(data, members)[:: 1 if fmt == "ustar" else 3]:
        assert_nothing_silent(flip(data, at + rng.randrange(200), rng.randrange(8)), members)
