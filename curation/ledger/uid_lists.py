"""The lists of uids that a recipe names: samples to keep or drop regardless of the filters, and sample weights."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa

from curation.core.errors import NotFoundError, RecipeError
from curation.storage.store import StoreOptions, open_object


@dataclass(frozen=True)
class UidList:
    """A keep list, drop list or list of sample weights: its uids, and its text, which the snapshot stores."""

    uids: pa.Array
    text: bytes
    weights: pa.Array | None = None

    suffix = "txt"  # of the snapshot's copy

    @property
    def data(self) -> bytes:
        """The bytes of the list."""
        return self.text

    @property
    def sha256(self) -> str:
        """The sha256 of the text."""
        return sha256(self.text).hexdigest()


def read_list(name: str, url: str, options: StoreOptions) -> UidList:
    """Read the list at a URL for the recipe's field `name` (`keep`, `drop` or `weights`). Raises `RecipeError`."""
    store, key = open_object(url, options)
    try:
        return store.get_parsed(key, lambda data: parse_list(name, data, url))
    except NotFoundError:
        raise RecipeError(f"{name}: {url} does not exist", fix=f"check the URL, or remove `{name}:`") from None


def parse_list(name: str, text: bytes, url: str) -> UidList:
    """Parse the list of a recipe's field `name`: `weights` has a number after each uid. Raises `RecipeError`."""
    return parse_weights(text, url) if name == "weights" else parse_uids(text, url)


def parse_weights(text: bytes, url: str) -> UidList:
    """Parse a list of sample weights, one `uid<TAB>weight` a line; empty lines and lines that begin with # are skipped.

    Raises `RecipeError` with the line.
    """
    lines = text.decode(errors="replace").splitlines()
    weights: list[float] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        _, _, weight = line.partition("\t")
        try:
            weights.append(float(np.float32(weight)))
        except ValueError:
            weights.append(0.0)
        if not 0 < weights[-1] < float("inf"):
            fix = "write a uid, a tab and a number above 0 on each line; to drop a sample, use `drop:`"
            raise RecipeError(f"{url}:{number}: this line has no valid weight", fix=fix)  # never quotes the file
    found = parse_uids("\n".join(line.partition("\t")[0] for line in lines).encode(), url)
    repeated = len(found.uids) - len(found.uids.unique())
    if repeated:
        raise RecipeError(f"{url}: {repeated} uids are repeated", fix="write each uid once")
    return UidList(found.uids, text, pa.array(weights, pa.float32()))


def parse_uids(text: bytes, url: str) -> UidList:
    """Parse a list of uids, one a line; empty lines and lines that begin with # are skipped. Raises `RecipeError`."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#") and (len(line) != 32 or not set(line) <= set("0123456789abcdef")):
            fix = "write one uid of 32 hexadecimal characters on each line"
            raise RecipeError(f"{url}:{number}: this line is not a uid", fix=fix)  # never quotes the file
    return UidList(pa.array([line for line in lines if line and not line.startswith("#")], pa.string()), text)
