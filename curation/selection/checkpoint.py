"""Checkpoints of a run: the exact state of every learner, and the position in the pool. Safetensors, never pickle.

    <folder>/checkpoints/<updates>.safetensors    tensors `<role>.<name>`; the run's facts as JSON in its metadata
    <folder>/checkpoints/index.json               their keys, the latest last

The index is put after its checkpoint: if the process dies between the two, or while it writes, the previous checkpoint
stays the latest. Two checkpoints are kept, since one that can't be read or whose bits have changed is skipped for the
previous one. The facts hold the rest of the state: the pool's position, the data, the recipe's identity. A run with
another identity does not resume from it. Cost: three times the weights (AdamW's moments), four times with averaged
weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from curation.core.errors import BucketError, NotFoundError, StoreError, UserError
from curation.models.weights import tensors_to_bytes
from curation.storage.store import Store

FORMAT = "tutelage-checkpoint-3"  # 1: rows counted all samples; 2: facts had no hash
INDEX = "checkpoints/index.json"
_CUT = (ValueError, RecursionError)  # raised by the header of a truncated or foreign file


class Restorable(Protocol):
    """A learner whose next steps are determined by its `state`."""

    steps: int

    def state(self) -> dict[str, Tensor]:
        """Return copies of everything that determines the next steps."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state()`."""
        ...


class Checkpoint(NamedTuple):
    """A checkpoint that was read. `unreadable`: keys of later ones that could not be read."""

    updates: int
    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    unreadable: tuple[str, ...] = ()

    def restore(self, learners: Mapping[str, Restorable]) -> None:
        """Restore every learner, by role. Raises `UserError` for a role that the checkpoint doesn't hold."""
        for role, learner in learners.items():
            state = {n.removeprefix(f"{role}."): t for n, t in self.tensors.items() if n.startswith(f"{role}.")}
            if not state:
                text = f"the checkpoint after {self.updates} updates has no {role}"
                raise UserError(text, fix="delete the checkpoints to start again")
            learner.restore(state)


def save(
    store: Store,
    learners: Mapping[str, Restorable],
    facts: Mapping[str, Any],
    *,
    tensors: Mapping[str, Tensor] | None = None,
    keep: int = 2,
) -> str:
    """Put a checkpoint, and delete all but the `keep` latest ones. Return its key.

    learners: by role; the role `learner` counts the updates. facts: values of JSON.
    tensors: facts that are too large for JSON, under names that begin with no role.
    """
    tensors = dict(tensors or {})
    tensors |= {f"{role}.{name}": tensor for role, one in learners.items() for name, tensor in one.state().items()}
    key = f"checkpoints/{learners['learner'].steps:09d}.safetensors"
    text = json.dumps(facts, sort_keys=True)
    metadata = {"format": FORMAT, "facts": text, "facts_sha256": _sha256(text, {}), "sha256": _sha256(text, tensors)}
    store.put(key, tensors_to_bytes(tensors, metadata))
    keys = ([old for old in _keys(store) if old < key] + [key])[-keep:]  # later ones were unreadable
    store.put(INDEX, json.dumps(keys).encode())
    for old in _files(store):
        if old not in keys:  # also those that a process left behind when it died here
            store.delete(old)
    return key


def _sha256(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """Hash facts and tensors: safetensors itself does not detect changed bits."""
    found = sha256(facts.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def latest(store: Store, identity: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> Checkpoint | None:
    """Return the readable checkpoint with the most updates; None if there is no checkpoint.

    identity: facts that must be equal. recipe: of this run, so that the error can name the settings that differ.
    Raises `UserError` for a checkpoint of another run, and where no checkpoint can be read.
    """
    from safetensors import SafetensorError

    unreadable: list[str] = []
    formats: set[str] = set()
    for key in reversed(_keys(store)):
        try:
            facts, tensors = store.get_parsed(key, _whole)
        except (NotFoundError, SafetensorError, _DamagedError, *_CUT) as error:
            unreadable.append(key)
            if isinstance(error, _DamagedError):
                formats.add(error.format)
            continue
        for name, value in identity.items():
            if facts.get(name) != value:
                text = f"{store.location(key)} is of another run: its {name} is {facts.get(name)}, not {value}"
                if others := list(_differing(facts.get("recipe") or {}, recipe or {})):
                    text = f"{store.location(key)} is of another run, with another {', '.join(others)}"
                raise UserError(text, fix="name another output for this run, or delete the checkpoints")
        updates = int(key.removeprefix("checkpoints/").removesuffix(".safetensors"))
        return Checkpoint(updates, facts, tensors, tuple(unreadable))
    if unreadable:
        text = f"no checkpoint in {store.location('checkpoints')} can be read: {', '.join(unreadable)}"
        if others := sorted(formats - {FORMAT}):
            text += f" (of format {', '.join(others)}, and this version reads {FORMAT})"
        raise UserError(text, fix="restore one, or delete them to start again")
    return None


class _DamagedError(ValueError):
    """A checkpoint with changed bits or another format."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.format = found


def _whole(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Parse a checkpoint's file: facts and tensors."""
    from safetensors.torch import load

    metadata, tensors = _metadata(data[8 : 8 + _length(data)]), load(data)
    facts = _facts(metadata)
    if facts is None or metadata.get("sha256") != _sha256(metadata["facts"], tensors):
        raise _DamagedError(str(metadata.get("format")))
    return facts, tensors


def latest_facts(store: Store) -> dict[str, Any] | None:
    """Return the facts of the readable checkpoint with the most updates, of any run; None if there is none.

    Reads the file's header only, however large the models are.
    """
    for key in reversed(_keys(store)):
        with suppress(StoreError, *_CUT):
            facts = _facts(_metadata(store.get_range(key, 8, _length(store.get_range(key, 0, 8)))))
            if facts is not None:
                return facts
    return None


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the dotted keys whose values differ."""
    for key in sorted(one.keys() | other.keys(), key=str):
        values = one.get(key), other.get(key)
        if all(isinstance(value, dict) for value in values):
            yield from _differing(*values, f"{above}{key}.")  # type: ignore[arg-type]
        elif values[0] != values[1]:
            yield f"{above}{key}"


def _length(data: bytes) -> int:
    """Return the bytes of the header, which begins at byte 8 of a safetensors file."""
    return int.from_bytes(data[:8], "little")


def _metadata(header: bytes) -> dict[str, Any]:
    found = json.loads(header)
    metadata = found.get("__metadata__") if isinstance(found, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _facts(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the facts; None if their bits have changed or the format is another one."""
    text = str(metadata.get("facts"))
    if metadata.get("format") != FORMAT or metadata.get("facts_sha256") != _sha256(text, {}):
        return None
    facts: dict[str, Any] = json.loads(text)
    return facts


def _keys(store: Store) -> list[str]:
    """Return the keys of the checkpoints, the latest last: from the index, or from a listing if it is unreadable."""
    with suppress(NotFoundError, *_CUT):
        keys = store.get_parsed(INDEX, json.loads)
        if isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys):
            return keys
    return _files(store)


def _files(store: Store) -> list[str]:
    """List the keys of all checkpoints."""
    try:
        return sorted(item.key for item in store.list("checkpoints/") if item.key.endswith(".safetensors"))
    except BucketError:  # the folder does not exist yet
        return []
