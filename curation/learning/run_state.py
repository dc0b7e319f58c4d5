"""The state of a run in a checkpoint besides the models: its metrics so far, and choices not trained on yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from curation.core.errors import LedgerError, NotFoundError, UserError
from curation.ledger.documents import parse
from curation.ledger.documents.learning import MetricsRow
from curation.selection.checkpoint import Checkpoint
from curation.selection.online import Choice
from curation.storage.store import Store


def read_metrics(store: Store) -> list[dict[str, Any]]:
    """Return the metrics of a run so far. Raises `UserError` where they are gone: they hold the learning curve."""
    try:
        lines = store.get("metrics.jsonl").decode().splitlines()
        return [parse(line.encode(), MetricsRow, "a line of metrics.jsonl", "").to_json() for line in lines]
    except (NotFoundError, LedgerError, UnicodeDecodeError):
        text = f"{store.location('metrics.jsonl')} is gone or damaged, and the checkpoint needs it"
        raise UserError(text, fix="restore it, or delete the checkpoints to start again") from None


def pending_facts(pending: Sequence[Choice]) -> list[dict[str, Any]]:
    """Return what JSON holds of choices; `pending_tensors` has the rest."""
    return [{"number": one.number, "lag": one.lag, "models": dict(one.models)} for one in pending]


def pending_tensors(pending: Sequence[Choice]) -> Mapping[str, Tensor]:
    """Return rows and scores of choices, by name."""
    found: dict[str, Tensor] = {}
    for one in pending:
        parts = {"candidates": one.candidates, "scores": one.scores, "chosen": one.chosen}
        found |= {f"pending.{one.number}.{name}": part for name, part in parts.items() if part is not None}
    return found


def pending_choices(found: Checkpoint) -> Iterator[Choice]:
    """Yield the choices that a checkpoint holds."""
    for fact in found.facts["pending"]:
        number = fact["number"]
        candidates, scores, chosen = (
            found.tensors.get(f"pending.{number}.{name}") for name in ("candidates", "scores", "chosen")
        )
        assert candidates is not None and chosen is not None
        yield Choice(number, candidates, scores, chosen, fact["lag"], fact["models"])
