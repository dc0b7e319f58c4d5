"""The pages of docs/results: a bench replaces its own figures, and the index lists what the pages hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench import record

PAGE = """# Speed: `make bench`

Prose before.

<!-- figures: local -->
- measured: 2026-01-01, code abc
old
<!-- end: local -->

<!-- figures: s3 -->
- measured: 2026-01-02, code def
other
<!-- end: s3 -->

Prose after.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "speed.md").write_text(PAGE)
    (tmp_path / record.INDEX).write_text("# Results\n\n<!-- figures: index -->\n<!-- end: index -->\n\nMore.\n")
    return tmp_path


def test_a_bench_replaces_its_own_figures(folder: Path) -> None:
    record.write("speed", "local", ["measured: 2026-02-03, code 123"], ["| a |", r"| \1 |"], folder)
    text = (folder / "speed.md").read_text()
    block = "- measured: 2026-01-01, code abc\nold"
    assert text == PAGE.replace(block, "- measured: 2026-02-03, code 123\n\n| a |\n| \\1 |")
    record.write("speed", "local", ["measured: 2026-01-01, code abc"], ["old"], folder)
    assert text != (folder / "speed.md").read_text() == PAGE.replace(block, block.replace("\nold", "\n\nold"))


def test_the_index_has_a_row_for_each_block(folder: Path) -> None:
    record.write_index(folder)
    assert (folder / record.INDEX).read_text().splitlines()[2:8] == [
        "<!-- figures: index -->",
        "| page | figures | measured |",
        "|---|---|---|",
        "| [Speed: `make bench`](speed.md) | local | 2026-01-01, code abc |",
        "| [Speed: `make bench`](speed.md) | s3 | 2026-01-02, code def |",
        "<!-- end: index -->",
    ]


def test_figures_without_a_place_are_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="no block `<!-- figures: gpu -->`"):
        record.write("speed", "gpu", [], [], folder)


def test_the_index_is_current(tmp_path: Path) -> None:
    shutil.copytree(record.PAGES, tmp_path / "results")
    record.write_index(tmp_path / "results")
    assert (tmp_path / "results/README.md").read_text() == (record.PAGES / "README.md").read_text()


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("throughput", "scoring"),
        ("filters", "filters"),
        ("recipes", "recipes"),
        ("roles", "cpu"),
        ("roles", "cuda"),
        *(("online-selection", name) for name in ("pairs", "classes", "epochs", "long")),
    ],
)
def test_every_bench_has_a_place_for_its_figures(page: str, name: str) -> None:
    assert f"<!-- figures: {name} -->\n" in (record.PAGES / f"{page}.md").read_text()
