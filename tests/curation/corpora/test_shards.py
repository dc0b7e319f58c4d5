"""Rendered shards: the same bytes for any number of workers, members in order."""

from __future__ import annotations

import tarfile
from pathlib import Path

from openmoji_build import contents, small

from curation.corpora import BuildResult


def test_bytes_do_not_depend_on_the_number_of_workers(corpus: tuple[Path, BuildResult], tmp_path: Path) -> None:
    small(tmp_path / "again", workers=2)
    assert contents(tmp_path / "again") == contents(corpus[0])


def test_tar_members_are_sorted_by_extension(corpus: tuple[Path, BuildResult]) -> None:
    with tarfile.open(corpus[0] / "00000.tar") as tar:
        names = tar.getnames()
    for index in range(0, len(names), 3):
        stems, extensions = zip(*(name.split(".") for name in names[index : index + 3]), strict=True)
        assert len(set(stems)) == 1
        assert list(extensions) == sorted(extensions)
