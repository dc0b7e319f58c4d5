"""Shards that the store refuses for good: the run stops and says what to do, or goes on without them and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from builders import PLAIN, write_corpus, write_recipe

import curation as cu
from curation.core.errors import IncompleteError, StoreError
from curation.core.types import ShardRef
from curation.curating import planning
from curation.curating.pipeline import Pipeline, pipeline
from curation.ledger.unreadable import read_list
from curation.recipes.curation_recipe import load_recipe
from jobs.commands.run import run_steps
from jobs.commands.verify import problems_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]
N = 20


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", 4, N, flaws=False)
    write_recipe(
        tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", "", "", limits={"max_quarantined": 0.5}, **PLAIN
    )
    return tmp_path


@contextmanager
def gone(home: Path, monkeypatch: pytest.MonkeyPatch, *shards: str) -> Iterator[None]:
    """Shards are listed and planned, and not there any more when they are read."""
    whole = planning.make_plan

    def planned(work: Pipeline, **options: Any) -> Any:
        back(home)
        found = whole(work, **options)
        for name in shards:
            (home / "corpus" / name).rename(home / name)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(planning, "make_plan", planned)
        yield
    back(home)


def back(home: Path) -> None:
    for path in home.glob("*.tar"):
        path.rename(home / "corpus" / path.name)


def run(home: Path, *overrides: str, **options: Any) -> tuple[Any, Any]:
    with pipeline(load_recipe(home / "r.yaml", overrides)) as work:
        return run_steps(work, None, **options), work.counts


ASIDE = "on_unreadable=quarantine"


def test_a_shard_that_can_not_be_read_stops_the_run_or_is_set_aside(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with gone(home, monkeypatch, "00000.tar"):
        with pytest.raises(IncompleteError, match=r"1 of the planned shards could not be scored; 00000.tar: ") as error:
            run(home)
        assert "on_unreadable: quarantine" in error.value.fix
        document, _ = run(home, ASIDE)
        reasons = {"store_not_found": 1}
        assert document.units.to_json() == {"total": 4, "quarantined": 1, "reasons": reasons}
        assert document.samples.seen == 3 * N
        snapshot = cu.open(f"{home}/out")
        assert [(s.key, why) for s, why in read_list(snapshot.store, document.unreadable).items()] == [
            ("00000.tar", "store_not_found")
        ]
        assert list(problems_of(snapshot)) == []
        assert len(list(snapshot.samples())) == document.samples.kept > 0
        capsys.readouterr()
        again, work = run(home, ASIDE)  # the plan is the same: nothing is tried, which is reported
        assert again == document and not work.new_snapshot and work.units_scored == 0
        assert "00000.tar (store_not_found); --retry-unreadable tries them again" in capsys.readouterr().err
        again, work = run(home, ASIDE, retry_unreadable=True)
        assert again == document and not work.new_snapshot
        with pytest.raises(IncompleteError):  # another recipe, which needs all shards, does not inherit it
            run(home)
    retried, work = run(home, ASIDE, retry_unreadable=True)
    assert work.units_scored == 1 and retried.snapshot == 2 and retried.unreadable is None
    assert retried.samples.seen == 4 * N and retried.units.quarantined == 0
    assert list(problems_of(cu.open(f"{home}/out@1"))) == []  # it names the shards that it was created without
    assert list(problems_of(cu.open(f"{home}/out@2"))) == []
    assert run(home)[0].snapshot == 2  # and that one misses no sample that another recipe would have


def test_where_most_can_not_be_read_the_shards_are_not_what_is_wrong(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        gone(home, monkeypatch, "00000.tar", "00001.tar", "00003.tar"),
        pytest.raises(StoreError, match=r"3 of 4 shards can't be read, such as 00000.tar"),
    ):
        run(home, ASIDE)


def test_names_of_shards_move_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    from curation.curating.run import report_unreadable

    report_unreadable({ShardRef("a\x1b[2J.tar", 1, "e"): "store_\x1b[2J"})
    said = capsys.readouterr().err
    assert "\x1b" not in said and "such as a\\x1b[2J.tar (store_\\x1b[2J); --retry-unreadable" in said
