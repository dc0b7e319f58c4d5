"""Lists of uids that a recipe names: samples to keep or drop whatever the filters say, and samples with weights."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa

from curation.core.errors import NotFoundError, RecipeError
from curation.storage.store import StoreOptions, open_object


@dataclass(frozen=True)
class UidList:
    """A keep or drop list, or one of weights: its uids, and its text for the snapshot."""

    uids: pa.Array
    text: bytes
    weights: pa.Array | None = None

    def weighed(self) -> pa.Table:
        """uid and weight (float32)."""
        return pa.table({"uid": self.uids, "weight": self.weights})

    @property
    def sha256(self) -> str:
        return sha256(self.text).hexdigest()


def read_list(name: str, url: str, options: StoreOptions) -> UidList:
    """The list of a recipe's field `name` at a URL."""
    store, key = open_object(url, options)
    try:
        return store.get_parsed(key, lambda data: parse_list(name, data, url))
    except NotFoundError:
        raise RecipeError(f"{name}: {url} does not exist", fix=f"check the URL, or leave {name}: out") from None


def parse_list(name: str, text: bytes, url: str) -> UidList:
    """The list of a recipe's field `name`: uids, and with `weights` a number behind each."""
    return parse_weights(text, url) if name == "weights" else parse_uids(text, url)


def parse_weights(text: bytes, url: str) -> UidList:
    """A list of uids with weights, `uid<TAB>weight` a line; empty lines and those that begin with # are skipped."""
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
            fix = "a line is a uid, a tab and a number above 0; leave a sample out to drop it"
            raise RecipeError(f"{url}:{number}: this line has no weight", fix=fix)  # never what a file holds
    found = parse_uids("\n".join(line.partition("\t")[0] for line in lines).encode(), url)
    repeated = len(found.uids) - len(found.uids.unique())
    if repeated:
        raise RecipeError(f"{url}: {repeated} uids occur twice", fix="one line a uid")
    return UidList(found.uids, text, pa.array(weights, pa.float32()))


def parse_uids(text: bytes, url: str) -> UidList:
    """A list of uids, one a line; empty lines and lines that begin with # are skipped."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#") and (len(line) != 32 or not set(line) <= set("0123456789abcdef")):
            fix = "each line is a uid, of 32 hexadecimal characters"
            raise RecipeError(f"{url}:{number}: this line is not a uid", fix=fix)  # never what a file holds
    return UidList(pa.array([line for line in lines if line and not line.startswith("#")], pa.string()), text)
