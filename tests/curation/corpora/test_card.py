"""The data card: its tables add up to what the shards hold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from openmoji_build import LIMIT, image

from curation.corpora import BuildResult


def test_card_adds_up(corpus: tuple[Path, BuildResult], samples: list[dict[str, Any]]) -> None:
    folder, built = corpus
    card = (folder / "CARD.md").read_text()
    assert f"{LIMIT:,} image-text pairs in 3 WebDataset shards" in card
    for title, table in built.counts["tables"].items():
        assert sum(table.values()) == LIMIT, title
        for name, n in table.items():
            assert f"| {name} | {n:,} |" in card
    packs = Counter(json.loads(sample["json"])["pack"] for sample in samples)
    assert built.counts["tables"]["pack"] == packs
    pictures = Counter(image(sample) for sample in samples)
    assert built.counts["same_picture"] == sum(n for n in pictures.values() if n > 1)
    assert built.bytes == sum(path.stat().st_size for path in folder.glob("*.tar"))
