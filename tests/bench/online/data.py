"""The two workloads of `make bench-online`, drawn from `@iconify/json`: 390,000 icons of 238 sets, ten emoji vendors.

Nothing is synthetic: names are the sets' own, duplicates are drawings of one thing by several vendors, the tail is
long, and the noise is natural. Sets under NC terms are left out. Pool, trusted and held-out sets share no set.

- pairs (ActiveCLIP): a pool of emoji of several vendors and other icons, captioned with their names. Trusted: two
  vendors whose names are words (fxemoji, which glues them together, is in the pool). Held out: one vendor for the
  report (`test`). For tuning it changes places with the largest vendor of the pool.
- classes (ClassAct): concepts that at least 25 sets draw. In the pool a name is cut down to a concept without mercy
  (`user-plus` is taken for `user`), which is where its label noise comes from; trusted and held-out sets, whole sets
  each, only have names that are exactly a concept.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curation.models.batches import Examples

PACKAGE = "@iconify/json@2.2.535"
EDITION = {"pairs": 4, "classes": 1}  # of this file's choices; part of every run's identity
SIZE = 64

_BOTH = ("fluent-emoji-flat", "fluent-emoji-high-contrast", "emojione-monotone", "emojione-v1", "fxemoji")
POOL_EMOJI = {"test": ("twemoji", *_BOTH), "tuning": ("noto", *_BOTH)}
HELD_OUT_EMOJI = {"test": "noto", "tuning": "twemoji"}
TRUSTED_EMOJI = ("openmoji", "emojione")
NEITHER = {"fluent-emoji", "noto-v1", "streamline-emojis"}  # emoji too, some of a vendor that is held out
EMOJI = frozenset((*sum(POOL_EMOJI.values(), ()), *HELD_OUT_EMOJI.values(), *TRUSTED_EMOJI))
OTHER_ICONS = 180_000  # with the emoji about as many as uniform draws: it meets nothing twice, as in the paper
HELD_OUT = 1_000  # pairs
SETS_A_CONCEPT = 25

_STYLES = """
outline outlined filled fill line linear bold broken duotone twotone two tone sharp rounded round thin light regular
solid stroke flat color 16 20 24 28 32 48 12 10 1 2 3 01 02 03 04 alt o baseline icon"""
_MODIFIERS = """
plus minus add remove off slash check cross x circle square alert warning edit delete search settings lock unlock
up down left right on new small large big simple mini open closed half full empty a b c s multiple double group"""
STYLES, MODIFIERS = frozenset(_STYLES.split()), frozenset(_MODIFIERS.split())


class Icon(NamedTuple):
    """One drawing: its set, its name as the set has it, its SVG."""

    set: str
    name: str
    svg: str


class Workload(NamedTuple):
    """Three sets of examples: label and caption are the same words in `pairs`; labels are classes in `classes`."""

    pool: Examples
    trusted: Examples
    held_out: Examples
    part: str = "test"  # or "tuning": which held-out set it is, and with it which pool


def load(name: str, held_out: str, cache_folder: Path) -> Workload:
    """A workload that is judged on `held_out` (test or tuning), rendered once and kept in `cache_folder`.

    Pixels are mapped: runs side by side share the 2.5 GB of a pool, and none waits until they are read.
    """
    parts = []
    for part in (f"pool-{held_out}" if name == "pairs" else "pool", "trusted", held_out):
        pixels, words = _files(name, part, cache_folder)
        if not words.exists():
            _render_all(name, cache_folder)
        with np.load(words) as data:
            columns = [data[key].tolist() for key in ("captions", "uids", "labels")]
        parts.append(Examples(np.load(pixels, mmap_mode="c"), *columns))
    return Workload(*parts, part=held_out)


def _files(name: str, part: str, folder: Path) -> tuple[Path, Path]:
    """Of the pixels, and of the words."""
    stem = f"{name}-{EDITION[name]}-{part}"
    return folder / f"{stem}.pixels.npy", folder / f"{stem}.words.npz"


def _render_all(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    icons = list(_icons(folder))
    parts = _pairs(icons) if name == "pairs" else _classes(icons)
    distinct = list({icon: None for rows in parts.values() for icon, _ in rows})
    with ProcessPoolExecutor() as pool:
        pixels = dict(zip(distinct, pool.map(_render, distinct, chunksize=256), strict=True))
    for part, rows in parts.items():
        drawn = [(icon, label, image) for icon, label in rows if (image := pixels[icon]) is not None]
        of_pixels, of_words = _files(name, part, folder)
        np.save(of_pixels, np.stack([image for _, _, image in drawn]))
        np.savez(
            of_words,  # last: where it is, the part is whole
            captions=np.array([label for _, label, _ in drawn]),
            uids=np.array([f"{icon.set}:{icon.name}" for icon, _, _ in drawn]),
            labels=np.array([label for _, label, _ in drawn]),
        )


def _icons(folder: Path) -> Iterator[Icon]:
    """Every icon that may be used, by set and name."""
    archive = folder / "iconify.tgz"
    if not archive.exists():
        done = subprocess.run(
            ["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True, text=True
        )
        (folder / done.stdout.strip().splitlines()[-1]).rename(archive)
    sets: dict[str, dict[str, Any]] = {}
    with tarfile.open(archive) as tar:  # read member by member, nothing is extracted
        for member in tar:
            if member.name == "package/collections.json" or member.name.startswith("package/json/"):
                file = tar.extractfile(member)
                assert file is not None
                sets[Path(member.name).stem] = json.load(io.TextIOWrapper(file, "utf-8"))
    about = sets.pop("collections")
    for name in sorted(sets):
        if "NC" in (about.get(name, {}).get("license", {}).get("spdx") or "NC"):
            continue
        document = sets[name]
        for icon, row in sorted(document["icons"].items()):
            if not row.get("hidden"):
                width, height = (row.get(key, document.get(key, 16)) for key in ("width", "height"))
                box = f"{row.get('left', 0)} {row.get('top', 0)} {width} {height}"
                yield Icon(name, icon, f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{row["body"]}</svg>')


def _pairs(icons: list[Icon]) -> dict[str, list[tuple[Icon, str]]]:
    by_set: dict[str, list[Icon]] = defaultdict(list)
    for icon in icons:
        by_set[icon.set].append(icon)
    others = sorted((icon for icon in icons if icon.set not in EMOJI | NEITHER), key=_hash)[:OTHER_ICONS]

    def of(sets: tuple[str, ...]) -> list[tuple[Icon, str]]:
        return [(icon, _words(icon.name)) for name in sets for icon in by_set[name]]

    parts = {"trusted": of(TRUSTED_EMOJI)}
    for part, vendor in HELD_OUT_EMOJI.items():
        parts[f"pool-{part}"] = [*of(POOL_EMOJI[part]), *((icon, _words(icon.name)) for icon in others)]
        parts[part] = sorted(of((vendor,)), key=lambda row: _hash(row[0]))[:HELD_OUT]
    return parts


def _classes(icons: list[Icon]) -> dict[str, list[tuple[Icon, str]]]:
    sets: dict[str, set[str]] = defaultdict(set)
    for icon in icons:
        sets[exact(icon.name)].add(icon.set)
    concepts = {name for name, found in sets.items() if name and len(found) >= SETS_A_CONCEPT}
    parts: dict[str, list[tuple[Icon, str]]] = {name: [] for name in ("pool", "trusted", "tuning", "test")}
    for icon in icons:
        part = _part(icon.set)
        label = exact(icon.name) if part != "pool" else noisy(icon.name, concepts)
        if label in concepts:
            parts[part].append((icon, label))
    known = {label for _, label in parts["pool"]}
    return {name: [row for row in rows if row[1] in known] for name, rows in parts.items()}


def exact(name: str) -> str:
    """A name without what only says how it is drawn."""
    return " ".join(word for word in name.split("-") if word not in STYLES)


def noisy(name: str, concepts: set[str]) -> str:
    """The concept that a name is, or begins with once its modifiers are gone."""
    label = exact(name)
    if label in concepts:
        return label
    return " ".join(word for word in label.split() if word not in MODIFIERS)


@cache
def _part(name: str) -> str:
    """Whole sets: 70 % to the pool, 10 % each to the others."""
    place = int.from_bytes(sha256(f"tutelage classes {name}".encode()).digest()[:4], "big") / 2**32
    return "pool" if place < 0.7 else "trusted" if place < 0.8 else "tuning" if place < 0.9 else "test"


def _words(name: str) -> str:
    return name.replace("-", " ")


def _hash(icon: Icon) -> str:
    return sha256(f"{icon.set}:{icon.name}".encode()).hexdigest()


def _render(icon: Icon) -> np.ndarray[Any, Any] | None:
    import cv2
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(icon.svg, width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True)
    except ValueError:
        return None  # a drawing that the renderer can't read is no sample
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None or pixels.min() == 255:
        return None
    return cv2.cvtColor(cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
