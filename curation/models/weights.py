"""Weights of networks: safetensors files pinned by their sha256, verified before anything parses them.

Only safetensors files are read, because loading a pickle can run code.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from curation.core.errors import PinnedFileError, WeightsError
from curation.storage.pinned_file import PinnedFile, Refusal

if TYPE_CHECKING:
    import torch

PICKLE = Refusal(
    suffixes=(".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"),
    # A zip (torch.save since 1.6), a bare pickle of protocol 2-5, and the magic number of older torch files.
    starts=(b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    reason="is a pickle, and loading one can run code; only safetensors are read",
    fix="curate proxy convert {name} {stem}.safetensors   # reads tensors only (torch.load with weights_only=True)",
)
# Torch's restricted unpickler raises any of these for bytes that are not a checkpoint.
_UNPICKLING = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Weights(PinnedFile):
    """A safetensors file, pinned by its sha256: a network's weights, vectors or centres. Pickles are refused."""

    folder: ClassVar[str] = "weights"
    suffix: ClassVar[str] = ".safetensors"
    error: ClassVar[type[PinnedFileError]] = WeightsError
    sha256_fix: ClassVar[str] = "`sha256sum` prints it; for weights, `curate proxy train` and `convert` do too"
    refusal: ClassVar[Refusal | None] = PICKLE


def read_tensors(path: str | Path, origin: str = "") -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors file, memory-mapped.

    `origin`: the name of the file in an error. Raises `WeightsError` for a file of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    origin = origin or str(path)
    with Path(path).open("rb") as file:
        if file.read(8).startswith(PICKLE.starts):
            raise PICKLE.error(WeightsError, origin)
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


def _state_dict(loaded: object) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, Mapping):
        for key in ("state_dict", "model", "model_state_dict"):
            if isinstance(loaded.get(key), Mapping):
                return _state_dict(loaded[key])
        named = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
        return {name.removeprefix("module."): tensor.clone() for name, tensor in named.items()}
    return {}
