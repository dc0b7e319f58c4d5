"""Weights by sha256: fetched from any store, verified before anything parses them, cached on local disk.

Only safetensors files are read, because loading a pickle can run code. Cost: one download a machine, and one pass of
sha256 over the file at each load (0.5-1 GB/s with SHA extensions).
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
# Torch's restricted unpickler raises any of these for bytes that are not a checkpoint.
_UNPICKLING = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Weights:
    """A file pinned by its sha256, mostly a safetensors file. Fingerprints contain the sha256 and not the URL."""

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            fix = f"`sha256sum` prints it; for weights, `curate proxy train` and `convert` do too (file: {self.url})"
            found = repr(self.sha256) if self.sha256 else "empty"
            raise WeightsError(f"sha256 of a file must be 64 lower-case hexadecimal digits; it is {found}", fix=fix)


def cache_dir() -> Path:
    """Folder in which fetched files are cached by sha256."""
    return cache_folder() / "weights"


def fetch_weights(weights: Weights, options: StoreOptions | None = None) -> Path:
    """Return the local path of a file whose bytes have `weights.sha256`, downloaded unless it is cached.

    Raises `WeightsError` for a pickle, for another sha256 and for an unreadable URL; `UserError` when the cache can't
    be written.
    """
    if weights.url.lower().endswith(PICKLE_SUFFIXES):
        raise refuse_pickle(weights.url)
    cached = cache_dir() / f"{weights.sha256}.safetensors"
    if cached.exists() and sha256_of(cached) == weights.sha256:
        return cached
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cached.parent, suffix=".part")
    except OSError as error:
        fix = "set XDG_CACHE_HOME to a writable folder"
        raise UserError(f"the cache folder {cached.parent} can't be written: {error.strerror}", fix=fix) from None
    try:
        with local_disk(f"fetching {weights.url}", cached.parent), os.fdopen(handle, "wb") as file:
            found = _download(weights.url, options, file)
            if found != weights.sha256:  # a read may be damaged on the way; a second equal one is another file
                file.seek(0)
                file.truncate()
                found = _download(weights.url, options, file)
        if found != weights.sha256:
            fix = "put the file's own sha256 into the recipe if you trust it, or restore the file"
            raise WeightsError(f"{weights.url} has sha256 {found}, expected {weights.sha256}", fix=fix)
        Path(name).replace(cached)
    finally:
        Path(name).unlink(missing_ok=True)
    return cached


def read_tensors(path: str | Path, origin: str = "") -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors file, memory-mapped.

    `origin`: the name of the file in an error. Raises `WeightsError` for a file of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    origin = origin or str(path)
    with Path(path).open("rb") as file:
        if file.read(8).startswith(PICKLE_MAGIC):
            raise refuse_pickle(origin)
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _not_safetensors(origin, error) from error
    return tensors


def _not_safetensors(origin: str, error: Exception) -> WeightsError:
    return WeightsError(f"{origin} is not a safetensors file: {error}", fix="convert it with `curate proxy convert`")


def read_metadata(path: str | Path, origin: str = "") -> dict[str, str]:
    """Metadata of a safetensors file's header; files of ours have `model`, `preprocess` and `recipe`.

    `origin`: the name of the file in an error. Raises `WeightsError` for a file of another format.
    """
    return read_header(path, origin)[1]


def read_header(path: str | Path, origin: str = "") -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Names and shapes of a safetensors file's tensors, and its metadata; no tensor is read.

    `origin`: the name of the file in an error. Raises `WeightsError` for a file of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return shapes, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _not_safetensors(origin or str(path), error) from error


def classes_of(metadata: Mapping[str, str], origin: str) -> list[str]:
    """Names of a classifier's classes, from the metadata of its weights; empty for any other model.

    `origin`: the name of the file in an error. Raises `WeightsError` when `classes` is not a list of names.
    """
    try:
        found = json.loads(metadata.get("classes", "[]"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        text = f"{origin} is damaged: `classes` in its metadata is not a list of names"
        raise WeightsError(text, fix="train the classifier again")
    return found


def tensors_to_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Bytes of a safetensors file: a pure function of the tensors and the metadata, whose keys are sorted.

    The library writes metadata in an order that differs between processes, so the header is rewritten here.
    """
    from safetensors.torch import save

    data: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    length = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format requires tensors aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def convert(source: Path, target: Path) -> str:
    """Convert a torch checkpoint to the safetensors file `target` without running code from it; return its sha256.

    Raises `WeightsError` when `source` is missing, needs code to load, or has no named tensors.
    """
    import torch

    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{source} does not exist") from error
    except _UNPICKLING as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        fix = "the file has more than tensors: save `model.state_dict()` alone where it was created"
        raise WeightsError(f"{source} cannot be read without running code from it: {line}", fix=fix) from error
    tensors = _state_dict(loaded)
    if not tensors:
        raise WeightsError(f"{source} has no named tensors", fix="save `model.state_dict()` of the model")
    data = tensors_to_bytes(tensors, {"format": "pt", "converted_from": source.name})
    target.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_pickle(origin: str) -> WeightsError:
    """Error for a pickle, whose fix is the command that converts it."""
    name = Path(origin).name
    target = f"{Path(name).stem}.safetensors"
    fix = f"curate proxy convert {name} {target}   # reads tensors only (torch.load with weights_only=True)"
    return WeightsError(f"{origin} is a pickle, and loading one can run code; only safetensors are read", fix=fix)


def _download(url: str, options: StoreOptions | None, file: BinaryIO) -> str:
    from curation.storage.store import open_object

    digest = hashlib.sha256()
    try:
        store, key = open_object(url, options)
        info = store.head(key)
        for block in store.blocks(key, info.size, info.etag):
            if file.tell() == 0 and block.startswith(PICKLE_MAGIC):
                raise refuse_pickle(url)  # before 10 GB are fetched, and independent of the sha256
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
