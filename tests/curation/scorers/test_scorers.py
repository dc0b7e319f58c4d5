"""The contract of every scorer in the table: deterministic, independent of batch and order; fingerprints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scorers_given import CPU, Fields, batch, columns, make

from curation.ledger import score_values
from curation.scorers import SCORERS, Batch, PartlyScored, Scorer, fingerprint
from curation.shards.images import DecodeLimits
from curation.shards.unit_reader import index_fingerprint, view_column

ELSEWHERE = ("against", "target", "centres", "probabilities")  # fields with the location of a file


INDEX = index_fingerprint(DecodeLimits())


def listed(values: Any) -> list[Any]:
    values = values.values if isinstance(values, PartlyScored) else values
    return values.to_pylist() if isinstance(values, pa.Array) else values.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCORERS))
def test_scores_do_not_depend_on_the_batch(name: str, given: Fields) -> None:
    torch.set_num_threads(1)
    scorer = make(name, given[name])
    assert isinstance(scorer, Scorer) and dataclasses.is_dataclass(scorer) and type(scorer).__doc__
    score = scorer.load(CPU)
    whole = score(batch(list(range(50)), scorer))
    values = listed(whole)
    whole, reasons = whole if isinstance(whole, PartlyScored) else (whole, {})
    assert not reasons
    assert len(values) == 50 and values == listed(score(batch(list(range(50)), scorer)))
    assert values[::-1] == listed(score(batch(list(range(49, -1, -1)), scorer)))
    for start, stop in ((0, 1), (7, 20), (20, 50)):
        assert values[start:stop] == listed(score(batch(list(range(start, stop)), scorer)))
    assert listed(score(batch([], scorer))) == []
    table = score_values.value_array(whole if isinstance(whole, pa.Array) else whole.numpy(), np.arange(50) > 0)
    wanted = scorer.values()
    assert table.type == (pa.list_(pa.float16(), 64) if wanted == pa.list_(pa.float16()) else wanted)
    if pa.types.is_floating(wanted):
        assert np.isfinite(values).all()
    parts = score_values.parts(name, pa.chunked_array([table]))
    assert all(part[0].as_py() is None and part.null_count == 1 for part in parts.values())


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_nothing_to_see_is_no_accident(name: str, given: Fields) -> None:
    """A quarantined sample: a black picture without size or caption."""
    scorer = make(name, given[name])
    views = {view_column(view): np.zeros((3, view.size, view.size, 3), np.uint8) for view in scorer.views()}
    blank = Batch(["", "", " "], views, np.zeros((3, 2), np.int32), columns([None] * 3, scorer))
    found = listed(scorer.load(CPU)(blank))
    assert len(found) == 3 and "nan" not in str(found)


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_fingerprints(name: str, given: Fields) -> None:
    """A file's location changes no fingerprint; every other field does, and so does the reading of units."""
    fields = given[name]
    base = fingerprint(make(name, fields), INDEX)
    assert fingerprint(make(name, moved(fields)), INDEX) == base
    assert fingerprint(make(name, fields), index_fingerprint(DecodeLimits(max_pixels=5))) != base
    others = {fingerprint(make(other, given[other]), INDEX) for other in SCORERS if other != name}
    assert base not in others
    changes = {
        "sha256": "0" * 64, "model": "proxy-ti", "precision": "bf16", "of": "text", "size": 64, "p": "inf",
        "against_sha256": "1" * 64, "target_sha256": "1" * 64, "centres_sha256": "1" * 64, "activation": "gelu",
        "numbers": 7, "seed": 3,
        "detector": "py3langid", "label": "species", "field": "species", "classes": ["ant", "bee", "cow"],
    }  # fmt: skip
    left = {field.name for field in dataclasses.fields(SCORERS[name])} - {"weights", *ELSEWHERE}
    left -= {"model"} if "probabilities" in fields else set()  # a table comes from no model of ours
    left -= {"against_sha256"} if "against" not in fields else set()  # a classifier's gradient has no other pairs
    for key, value in changes.items():
        if key in left:
            left.remove(key)
            assert fingerprint(make(name, {**fields, key: value}), INDEX) != base, key
        for nested in ("head", "reference"):
            if key in fields.get(nested, {}):
                left.discard(nested)
                changed = {**fields, nested: {**fields[nested], key: value}}
                assert fingerprint(make(name, changed), INDEX) != base, (nested, key)
    assert not left, "fields that no case changes"
    later = make(name, fields)
    told = dict(later.identity())
    assert isinstance(told["code"], int), "the code's version, which is raised where values change"
    told["code"] += 1
    object.__setattr__(later, "identity", lambda: told)
    assert fingerprint(later, INDEX) != base


def moved(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same with every file somewhere else."""
    urls = {name: "s3://elsewhere/f.safetensors" for name in ("weights", *ELSEWHERE) if name in fields}
    nested = {name: moved(value) for name, value in fields.items() if isinstance(value, dict)}
    return {**fields, **urls, **nested}
