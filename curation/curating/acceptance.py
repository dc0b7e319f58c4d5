"""What a run may not do silently: keep nothing, quarantine much, or keep far less than the snapshot before it.

Checked after deciding and before any byte is written, so a refusal costs nothing: the score tables stay, and the same
command with `--accept-yield` goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FALLS_BELOW = 0.5  # of the parent's yield
NAMED = 3  # reasons that are named
FIX = (
    "fix the input or the recipe and run again, which reuses the scores; or accept it: curate run --accept-yield "
    "(what-if shows what each filter drops)"
)


def refusals(
    samples: Mapping[str, Any],
    units: Mapping[str, Any],
    *,
    most: float,
    parent: Mapping[str, Any] | None = None,
    causes: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Why a decision is refused, the first cause first.

    `samples`: seen, kept, filtered and quarantined by reason, of the decision; `parent`: of the snapshot before it.
    `units`: total, and `empty`: reason -> shards that are quarantined and hold no sample. `most`: the largest share of
    samples, and of shards, that may be quarantined. `causes`: reason -> what is known of it.
    """
    seen, kept = samples["seen"], samples["kept"]
    for noun, total, bad in (("shards", units["total"], units["empty"]), ("samples", seen, samples["quarantined"])):
        count = sum(bad.values())
        if count > most * total:
            share = f"{count / total:.1%} of the {noun} are quarantined, {count:,} of {total:,}"
            yield f"{share}, and limits.max_quarantined is {most:.1%}: {_reasons(bad, causes or {})}"
    if not kept:
        why = _reasons({**samples["filtered"], **samples["quarantined"]}, causes or {})
        if not seen and units["empty"]:
            why = f"shards are quarantined whole, {_reasons(units['empty'], causes or {})}"
        yield f"none of {seen:,} samples is kept: {why or 'the shards hold none'}"
    if parent and parent["seen"] and kept / max(1, seen) < FALLS_BELOW * parent["kept"] / parent["seen"]:
        now, then = kept / max(1, seen), parent["kept"] / parent["seen"]
        most_drops = _reasons({**samples["filtered"], **samples["quarantined"]}, causes or {})
        yield f"{now:.1%} of the samples are kept, less than half of the {then:.1%} of the last snapshot: {most_drops}"


def _reasons(counts: Mapping[str, int], causes: Mapping[str, str]) -> str:
    """The commonest reasons, with what is known of them."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{reason} {n:,}{f' ({causes[reason]})' if reason in causes else ''}" for reason, n in ordered[:NAMED]]
    return ", ".join(named) + (f" and {len(ordered) - NAMED:,} other reasons" if len(ordered) > NAMED else "")
