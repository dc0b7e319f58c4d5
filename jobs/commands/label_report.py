"""The report of `curate evaluate --labels` as lines of text: accuracies, ranks, tau, pairs that change places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOST_PAIRS = 20  # pairs that change places and are printed


def label_report(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report of `label_evaluation.evaluate_labels`, line by line."""
    held_out = found["held_out"]
    skipped = "".join(f", {count:,} skipped: {reason}" for reason, count in held_out["skipped"].items())
    yield (f"labels `{found['label']}` of {held_out['url']} ({held_out['samples']:,} samples, "
           f"{found['classes']} classes{skipped})")  # fmt: skip
    width = max(map(len, found["labellings"]))
    for name, labelling in found["labellings"].items():
        yield f"  {name:<{width}}  {_labelling(labelling)}"
        yield from (f"  WARNING: {line}" for line in _warnings(name, labelling))
    yield from _table(found)
    for order in found["orders"]:
        tau = "none: one of the orders is a tie" if order["tau"] is None else f"{order['tau']:.3f}"
        yield f"  {order['from']} to {order['to']}: Kendall's tau {tau}; pairs that change places: {order['changed']:,}"
        yield from _changed(found, order["from"], order["to"])
    if comparisons := found["intervals"]["comparisons"]:
        yield (f"  differences of pairs: McNemar's exact test on equal samples; all {comparisons:,} intervals hold "
               f"together at {found['intervals']['level']:.0%} (Bonferroni)")  # fmt: skip


def _labelling(labelling: Mapping[str, Any]) -> str:
    parts = [f"{labelling['samples']:,} samples"]
    if labelling["edits"]:
        parts.append(f"{labelling['replaced']:,} labels replaced by {', '.join(labelling['edits'])}")
    else:
        parts.append("labels as stored")
    return ", ".join([*parts, *(f"{count:,} left out: {reason}" for reason, count in labelling["left_out"].items())])


def _warnings(name: str, labelling: Mapping[str, Any]) -> Iterator[str]:
    stale = labelling["stale"]
    if stale["count"]:
        one = stale["examples"][0]
        yield (f"stale_edit: {stale['count']:,} edits are not applied, since the label has changed, such as uid "
               f"{one['uid']}: {one['present']!r}, expected {one['expected']!r}")  # fmt: skip
    if labelling["unknown"]:
        fix = "; name the samples as the recipe of the review does" if not labelling["replaced"] else ""
        yield f"unknown_uid: {labelling['unknown']:,} edits are of samples that are not judged here{fix}"


def _table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row a model, the best of the last labelling first: accuracy with interval and rank by labelling."""
    names = list(found["labellings"])
    models = sorted(found["models"].items(), key=lambda item: item[1]["labels"][names[-1]]["rank"])
    rows = [(model, [_rate(about["labels"][name]) for name in names]) for model, about in models]
    label = max(len(model) for model, _ in rows)
    widths = [max(len(name), *(len(cells[at]) for _, cells in rows)) for at, name in enumerate(names)]
    for model, cells in [("", names), *rows]:
        columns = "".join(f"   {cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        yield f"  {model:<{label}}{columns}".rstrip()


def _rate(rate: Mapping[str, Any]) -> str:
    return f"{rate['rank']:>3}. {rate['rate']:.3f} ({rate['low']:.3f} to {rate['high']:.3f})"


def _changed(found: Mapping[str, Any], before: str, after: str) -> Iterator[str]:
    changed = [pair for pair in found["pairs"] if [before, after] in pair["changes"]]
    for pair in changed[:MOST_PAIRS]:
        first, second = _ahead(pair, before)
        words = " and ".join(f"{name} {_difference(pair, name, first)}" for name in (before, after))
        yield f"    {first} before {second}: {words}"
    if more := len(changed) - MOST_PAIRS:
        yield from [f"    and {more:,} more (--json)"] if more > 0 else []


def _ahead(pair: Mapping[str, Any], name: str) -> Sequence[str]:
    """Return the two models, the one that is ahead under a labelling first."""
    models: Sequence[str] = pair["models"]
    return models if pair["differences"][name]["mean"] > 0 else models[::-1]


def _difference(pair: Mapping[str, Any], name: str, first: str) -> str:
    one = pair["differences"][name]
    mean, low, high = one["mean"], one["low"], one["high"]
    if pair["models"][0] != first:
        mean, low, high = -mean, -high, -low
    words = "beyond chance" if not low <= 0 <= high else "no difference shown"
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f}, {words})"
