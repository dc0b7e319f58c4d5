"""Four icon packs: Phosphor (stroked and flat, six weights), Tabler, Simple Icons (logos) and Octicons.

They contain near-duplicates of their own: one thing in six weights, one arrow in three packs, a logo and its redesign.
Reading their metadata, from files and compiled modules, takes a second; the SVG text has about 30 MB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from curation.corpora.drawing import Drawing

# Of Phosphor's second family (the same icons, drawn with strokes), one weight is taken: all 9,072 drawings would be
# near-duplicates of the flat family and a third of the corpus.
PHOSPHOR = {"flat": ("thin", "light", "regular", "bold", "fill", "duotone"), "stroke": ("regular",)}
STYLES = {"fill": "filled", "regular": ""}

_TAGS = re.compile(r"^tags?: *\[(.*?)\]", re.MULTILINE)
_CATEGORY = re.compile(r"^category: *(.+?) *$", re.MULTILINE)
_SPDX = re.compile(r"(Apache|MIT|MPL|A?GPL|LGPL|BSD|CC0|CC-BY|CC-BY-SA|ISC|OFL)(-[0-9.]+|-Clause|-only|-or-later)*\Z")


def phosphor() -> Iterator[Drawing]:
    """Yield the drawings of `py-phosphor-icons`: 1,512 names with tags and categories."""
    import py_phosphor_icons

    package = Path(py_phosphor_icons.__file__).parent
    rows = json.loads((package / "search" / "metadata.json").read_text(encoding="utf-8"))
    about: dict[str, dict[str, Any]] = {row["name"]: row for row in rows}
    for family, weights in PHOSPHOR.items():
        for weight in weights:
            for file in sorted((package / "svgs" / family / weight).glob("*.svg")):
                slug = file.stem.removesuffix(f"-{weight}")
                row = about.get(slug, {"tags": (), "categories": ()})
                tags = tuple(tag for tag in row["tags"] if not tag.startswith("*"))
                yield Drawing(
                    key=f"phosphor-{family}-{weight}-{slug}",
                    kind="icon",
                    pack="phosphor",
                    name=_spaced(slug),
                    svg=file,
                    licence="MIT",
                    origin=f"py_phosphor_icons/svgs/{family}/{weight}/{file.name}",
                    keywords=tags,
                    style=STYLES.get(weight, weight),
                    category=next(iter(row["categories"]), ""),
                )


def tabler() -> Iterator[Drawing]:
    """Yield the drawings of `pytablericons`. Its module requires pygame, so that the files are found without import."""
    from importlib.util import find_spec

    spec = find_spec("pytablericons")
    assert spec is not None
    assert spec.origin is not None
    for family, style in (("filled", "filled"), ("outline", "outline")):
        for file in sorted((Path(spec.origin).parent / "icons" / family).glob("*.svg")):
            svg = file.read_text(encoding="utf-8")
            head = svg.partition("-->")[0]
            tags, category = _TAGS.search(head), _CATEGORY.search(head)
            keywords = tuple(tag.strip(" \"'") for tag in tags[1].split(",") if tag.strip()) if tags else ()
            yield Drawing(
                key=f"tabler-{family}-{file.stem}",
                kind="icon",
                pack="tabler",
                name=_spaced(file.stem),
                svg=svg,
                licence="MIT",
                origin=f"pytablericons/icons/{family}/{file.name}",
                keywords=keywords,
                style=style,
                category=category[1] if category else "",
            )


def simple_icons() -> Iterator[Drawing]:
    """Yield the drawings of `simple-icons-pack`: brand logos, CC0 unless their owner names another licence.

    Skips logos under NC or ND terms (a rendering is a derivative) and under terms without an SPDX name.
    """
    import simple_icons_pack

    for icon in _constants(simple_icons_pack):
        licence = icon.license or "CC0-1.0"
        if _SPDX.match(licence):
            yield Drawing(
                key=f"simpleicons-{icon.slug}",
                kind="logo",
                pack="simple-icons",
                name=icon.title,
                svg=_filled(icon.svg),
                licence=licence,
                origin=icon.source,
                brand=f"#{icon.hex.lower()}",
                keywords=(icon.slug,),
            )


def octicons() -> Iterator[Drawing]:
    """Yield the drawings of `octicons-pack`: names without tags, each drawn for 16 and for 24 pixels."""
    import octicons_pack

    for icon in _constants(octicons_pack):
        name = icon.slug.rpartition("-")[0]
        style = "filled" if "-fill" in icon.slug else ""
        yield Drawing(
            key=f"octicons-{icon.slug}",
            kind="icon",
            pack="octicons",
            name=_spaced(name.removesuffix("-fill")),
            svg=_filled(icon.svg),
            licence="MIT",
            origin=f"octicons_pack/{icon.slug}",
            style=style,
            keywords=tuple(name.split("-")),
        )


def _constants(module: ModuleType) -> list[Any]:
    return [getattr(module, name) for name in sorted(dir(module)) if name.isupper()]


def _filled(svg: str) -> str:
    """Name the colour `currentColor`, as other packs do; these leave it to the page's default, black."""
    return svg.replace("<svg ", '<svg fill="currentColor" ', 1) if "fill=" not in svg.partition(">")[0] else svg


def _spaced(slug: str) -> str:
    return slug.replace("-", " ")
