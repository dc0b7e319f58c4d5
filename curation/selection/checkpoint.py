"""Checkpoints of a run: every learner to the bit, and where its candidates go on. Safetensors, never pickle.

    <folder>/checkpoints/<updates>.safetensors    tensors `<role>.<name>`; the run's facts as JSON in its metadata
    <folder>/checkpoints/index.json               their keys, the latest last

The index is put after its checkpoint: a process that dies between, or while it writes, leaves the one before as the
latest. One that can't be read (any more), or whose bits are not those that were put, is passed over for the one before,
which is why two are kept. The facts are what the tensors don't say: the pool's place, the snapshot, the recipe's
identity. A run whose identity differs does not go on from it. Cost: three times the weights (AdamW's moments), four
with averaged weights.
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

FORMAT = "tutelage-checkpoint-3"  # 1: rows of candidates were places among all; 2: facts had no hash of their own
INDEX = "checkpoints/index.json"
_CUT = (ValueError, RecursionError)  # what reading the header of half a file, or of a foreign one, raises


class Restorable(Protocol):
    """A learner whose next steps are decided by what `state` returns."""

    steps: int

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


class Checkpoint(NamedTuple):
    """What was read back."""

    updates: int
    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    unreadable: tuple[str, ...] = ()  # later ones

    def restore(self, learners: Mapping[str, Restorable]) -> None:
        """Put every learner where it was. Raises `UserError` for a role that the checkpoint doesn't hold."""
        for role, learner in learners.items():
            state = {n.removeprefix(f"{role}."): t for n, t in self.tensors.items() if n.startswith(f"{role}.")}
            if not state:
                raise UserError(f"the checkpoint after {self.updates} updates has no {role}", fix="begin anew")
            learner.restore(state)


def save(
    store: Store,
    learners: Mapping[str, Restorable],
    facts: Mapping[str, Any],
    *,
    tensors: Mapping[str, Tensor] | None = None,
    keep: int = 2,
) -> str:
    """Put a checkpoint, and delete all but the `keep` latest; returns its key. `learners` holds the role `learner`.

    `tensors`: facts that are too large for JSON, under names that no role begins.
    """
    tensors = dict(tensors or {})
    tensors |= {f"{role}.{name}": tensor for role, one in learners.items() for name, tensor in one.state().items()}
    key = f"checkpoints/{learners['learner'].steps:09d}.safetensors"
    told = json.dumps(facts, sort_keys=True)
    metadata = {"format": FORMAT, "facts": told, "facts_sha256": _sha256(told, {}), "sha256": _sha256(told, tensors)}
    store.put(key, tensors_to_bytes(tensors, metadata))
    keys = ([old for old in _keys(store) if old < key] + [key])[-keep:]  # later ones could not be read
    store.put(INDEX, json.dumps(keys).encode())
    for old in _files(store):
        if old not in keys:  # also what a process that died here once left behind
            store.delete(old)
    return key


def _sha256(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a checkpoint says. Safetensors itself notices no bit that has changed."""
    found = sha256(facts.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def latest(store: Store, identity: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> Checkpoint | None:
    """The checkpoint with the most updates that can be read; None where there is none. `recipe`: to tell in what
    another run differs, whose facts have its own under this name.

    Raises `UserError` when its facts differ from those of `identity`: it belongs to another run; and where there are
    checkpoints and none can be read.
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
                raise UserError(text, fix="name another folder for this run, or delete the checkpoints")
        updates = int(key.removeprefix("checkpoints/").removesuffix(".safetensors"))
        return Checkpoint(updates, facts, tensors, tuple(unreadable))
    if unreadable:
        text = f"no checkpoint in {store.location('checkpoints')} can be read: {', '.join(unreadable)}"
        if others := sorted(formats - {FORMAT}):
            text += f" (of format {', '.join(others)}, and this version reads {FORMAT})"
        raise UserError(text, fix="put one back, or delete them to begin anew")
    return None


class _DamagedError(ValueError):
    """A checkpoint that does not hold what was put, or of another format."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.format = found


def _whole(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and tensors of a checkpoint's file."""
    from safetensors.torch import load

    metadata, tensors = _metadata(data[8 : 8 + _length(data)]), load(data)
    facts = _facts(metadata)
    if facts is None or metadata.get("sha256") != _sha256(metadata["facts"], tensors):
        raise _DamagedError(str(metadata.get("format")))
    return facts, tensors


def latest_facts(store: Store) -> dict[str, Any] | None:
    """The facts of the checkpoint with the most updates, of whatever run; None where there is none.

    Reads the file's header alone, however large the models are.
    """
    for key in reversed(_keys(store)):
        with suppress(StoreError, *_CUT):
            facts = _facts(_metadata(store.get_range(key, 8, _length(store.get_range(key, 0, 8)))))
            if facts is not None:
                return facts
    return None


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The keys whose values differ, with those above them."""
    for key in sorted(one.keys() | other.keys(), key=str):
        values = one.get(key), other.get(key)
        if all(isinstance(value, dict) for value in values):
            yield from _differing(*values, f"{above}{key}.")  # type: ignore[arg-type]
        elif values[0] != values[1]:
            yield f"{above}{key}"


def _length(data: bytes) -> int:
    """Bytes of the header that begins at byte 8 of a safetensors file."""
    return int.from_bytes(data[:8], "little")


def _metadata(header: bytes) -> dict[str, Any]:
    found = json.loads(header)
    said = found.get("__metadata__") if isinstance(found, dict) else None
    return said if isinstance(said, dict) else {}


def _facts(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """None where they are not those that were put, or of another format."""
    told = str(metadata.get("facts"))
    if metadata.get("format") != FORMAT or metadata.get("facts_sha256") != _sha256(told, {}):
        return None
    facts: dict[str, Any] = json.loads(told)
    return facts


def _keys(store: Store) -> list[str]:
    """The keys of the checkpoints, the latest last, by the index; by what is there, where it is lost or broken."""
    with suppress(NotFoundError, *_CUT):
        keys = store.get_parsed(INDEX, json.loads)
        if isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys):
            return keys
    return _files(store)


def _files(store: Store) -> list[str]:
    """The keys of all that lie there."""
    try:
        return sorted(item.key for item in store.list("checkpoints/") if item.key.endswith(".safetensors"))
    except BucketError:  # a folder that is still to be made
        return []
