"""Weights by sha256: fetched from any store, verified before anything parses them, kept in a local cache.

Only safetensors are read: a pickle can run code while it is loaded. Cost: one pass of sha256 over the file at each
load (0.5-1 GB/s with SHA extensions), on every machine once a download.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from curation.core.cache import cache_folder
from curation.core.errors import StoreError, UserError, WeightsError
from curation.storage.tables import local_disk

if TYPE_CHECKING:
    import torch

    from curation.storage.store import StoreOptions

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
# A zip (torch.save since 1.6), a bare pickle of protocol 2-5, and the magic number of older torch files.
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# What torch's restricted unpickler raises on bytes that are no checkpoint: whatever its stack machine trips over.
_UNPICKLING = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Weights:
    """A file, mostly a safetensors: where it lies, and what it must hash to, which is part of every fingerprint."""

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            fix = f"`sha256sum` prints it; for weights, `curate proxy train` and `convert` do too (file: {self.url})"
            found = repr(self.sha256) if self.sha256 else "empty"
            raise WeightsError(f"sha256 of a file must be 64 lower-case hexadecimal digits; it is {found}", fix=fix)


def cache_dir() -> Path:
    """Where fetched weights are kept, by sha256."""
    return cache_folder() / "weights"


def fetch_weights(weights: Weights, options: StoreOptions | None = None) -> Path:
    """A local path whose bytes have `weights.sha256`; downloads into the cache unless it is there already."""
    if weights.url.lower().endswith(PICKLE_SUFFIXES):
        raise refuse_pickle(weights.url)
    cached = cache_dir() / f"{weights.sha256}.safetensors"
    if cached.exists() and sha256_of(cached) == weights.sha256:
        return cached
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cached.parent, suffix=".part")
    except OSError as error:
        fix = "set XDG_CACHE_HOME to a folder that can be written to"
        raise UserError(f"files can't be kept in {cached.parent}: {error.strerror}", fix=fix) from None
    try:
        with local_disk(f"fetching {weights.url}", cached.parent), os.fdopen(handle, "wb") as file:
            found = _download(weights.url, options, file)
            if found != weights.sha256:  # one read may be damaged on the way; two that agree are another file
                file.seek(0)
                file.truncate()
                found = _download(weights.url, options, file)
        if found != weights.sha256:
            fix = "name the file's own sha256 if you trust it, or fetch the file again"
            raise WeightsError(f"{weights.url} has sha256 {found}, but {weights.sha256} was asked for", fix=fix)
        Path(name).replace(cached)
    finally:
        Path(name).unlink(missing_ok=True)
    return cached


def read_tensors(path: str | Path, origin: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file (memory-mapped); `origin` is what an error calls the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    origin = origin or str(path)
    with Path(path).open("rb") as file:
        if file.read(8).startswith(PICKLE_MAGIC):
            raise refuse_pickle(origin)
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _no_safetensors(origin, error) from error
    return tensors


def _no_safetensors(origin: str, error: Exception) -> WeightsError:
    return WeightsError(f"{origin} is not a safetensors file: {error}", fix="`curate proxy convert` makes one")


def read_metadata(path: str | Path, origin: str = "") -> dict[str, str]:
    """The header's metadata; of our own files: model, preprocess, recipe. `origin` is what an error calls the file."""
    return read_header(path, origin)[1]


def read_header(path: str | Path, origin: str = "") -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Names and shapes of the tensors, of which none is read, and the metadata. `origin` as in `read_metadata`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return shapes, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _no_safetensors(origin or str(path), error) from error


def classes_of(metadata: Mapping[str, str], origin: str) -> list[str]:
    """The classes that a classifier of ours knows, from its weights' metadata; none of another model. Raises
    `WeightsError` where they are no list of names."""
    try:
        found = json.loads(metadata.get("classes", "[]"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise WeightsError(f"{origin} is damaged: `classes` in its metadata is no list of names", fix="train it again")
    return found


def tensors_to_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes are a pure function of its content, keys sorted in the metadata too.

    The library writes metadata in an order that differs from process to process, so the header is rewritten here.
    """
    from safetensors.torch import save

    data: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    length = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants tensors aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def convert(source: Path, target: Path) -> str:
    """Writes `target` (safetensors) from a torch checkpoint, without running code from it; returns the sha256."""
    import torch

    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{source} does not exist") from error
    except _UNPICKLING as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        fix = "it holds more than tensors: save `model.state_dict()` where it was made"
        raise WeightsError(f"{source} cannot be read without running code from it: {line}", fix=fix) from error
    tensors = _state_dict(loaded)
    if not tensors:
        raise WeightsError(f"{source} holds no tensors by name")
    data = tensors_to_bytes(tensors, {"format": "pt", "converted_from": source.name})
    target.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file, streamed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_pickle(origin: str) -> WeightsError:
    """The error for weights that could run code, with the command that converts them."""
    name = Path(origin).name
    target = f"{Path(name).stem}.safetensors"
    fix = f"curate proxy convert {name} {target}   # reads tensors only (torch.load with weights_only=True)"
    return WeightsError(
        f"{origin} is a pickle, which can run code while it is loaded; only safetensors are read", fix=fix
    )


def _download(url: str, options: StoreOptions | None, file: BinaryIO) -> str:
    from curation.storage.store import open_object

    digest = hashlib.sha256()
    try:
        store, key = open_object(url, options)
        info = store.head(key)
        for block in store.blocks(key, info.size, info.etag):
            if file.tell() == 0 and block.startswith(PICKLE_MAGIC):
                raise refuse_pickle(url)  # before 10 GB of it are fetched, and whatever its sha256 is
            digest.update(block)
            file.write(block)
    except StoreError as error:
        raise WeightsError(f"{url}: {error}", fix=error.fix) from error
    return digest.hexdigest()


def _state_dict(loaded: object) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, Mapping):
        for key in ("state_dict", "model", "model_state_dict"):
            if isinstance(loaded.get(key), Mapping):
                return _state_dict(loaded[key])
        named = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
        return {name.removeprefix("module."): tensor.clone() for name, tensor in named.items()}
    return {}
