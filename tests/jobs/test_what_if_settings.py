"""Several settings of `curate what-if` open and fetch their inputs once; in one process, without Ray."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from builders import PLAIN, write_corpus, write_recipe, write_shard
from running import curate

import curation as cu
from curation.core.errors import PinnedFileError, RecipeError
from curation.curating import compared_snapshots as others
from curation.curating import decision_results, plan_decision
from curation.curating.decisions import Decisions
from curation.curating.pipeline import pipeline, pipeline_of
from curation.curating.what_if_questions import ask, every, settings
from curation.filters.phrases import PhraseFile
from curation.recipes.curation_recipe import Recipe, load_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot, and one of the same corpus that it can be compared with."""
    root = tmp_path_factory.mktemp("what-if-settings")
    write_corpus(root / "corpus", 2, 40)
    for name in ("eval", "pool"):
        curate(write_recipe(root / f"{name}.yaml", f"{root}/corpus", f"{root}/{name}", "", "", **PLAIN))
    return root


def with_filters(home: Path, *filters: dict[str, Any]) -> Recipe:
    path = home / f"{hashlib.sha256(repr(filters).encode()).hexdigest()[:8]}.yaml"
    plain = PLAIN | {"filters": list(filters)}
    return load_recipe(write_recipe(path, f"{home}/corpus", f"{home}/pool", "", "", **plain))


def words(path: Path, text: str) -> dict[str, str]:
    path.write_text(text)
    return {"url": str(path), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_all_settings_are_answered_by_one_pipeline(home: Path) -> None:
    against = {"decontaminate": {"against": f"{home}/eval"}}
    recipes = {
        "as it is": load_recipe(home / "pool.yaml"),
        "rare": with_filters(home, {"mentions": words(home / "rare.txt", "a word that no caption has\n")}),
        "new": with_filters(home, against),
        "new and long": with_filters(home, against, {"caption": {"min_words": 50}}),
    }
    with pipeline(every(recipes), dry=True) as work:
        answers, unscored = ask(work, recipes)
    assert unscored.num_rows == 0
    same, rare, new, both = answers
    assert same.overlap is not None and same.overlap["jaccard"] == 1 and same.samples["kept"] > 0
    assert rare.samples["kept"] == 0 and [step.filter for step in rare.steps] == ["mentions"]
    assert [step.filter for step in both.steps] == ["decontaminate", "caption"]
    assert both.steps[0].kept == new.samples["kept"] and both.samples["kept"] == 0


def test_what_has_not_been_scored_does_not_leave(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2, 20, flaws=False)
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/corpus", f"{tmp_path}/out", "", "", **PLAIN)
    rows = curate(recipe).snapshot.manifest.to_arrow(["decision", "source_key"]).to_pylist()
    record = next(path for path in tmp_path.glob("out/scores/units/*") if '"key":"00001.tar"' in path.read_text())
    record.unlink()
    one = sum(row == {"decision": "kept", "source_key": "00000.tar"} for row in rows)
    with pipeline(load_recipe(recipe), dry=True) as work:
        (same,), unscored = ask(work, {"as it is": work.recipe})
        assert unscored.num_rows == 1 and same.samples["kept"] == one
        assert same.overlap == {"in_both": one, "entering": 0, "leaving": 0, "jaccard": 1}
    write_shard(tmp_path / "corpus/00001.tar", 5, 20)  # other bytes: of those that were there, all leave
    with pipeline(load_recipe(recipe), dry=True) as work:
        (other,), unscored = ask(work, {"as it is": work.recipe})
        assert (
            unscored.num_rows == 1 and other.overlap["leaving"] == sum(row["decision"] == "kept" for row in rows) - one
        )


def test_files_of_every_setting_are_fetched_before_any_is_answered(home: Path) -> None:
    lists = [words(home / f"{n}.txt", f"word {n}\n") for n in range(2)]
    recipes = {str(n): with_filters(home, {"mentions": found}) for n, found in enumerate(lists)}
    with pipeline(every(recipes), dry=True):
        assert all(PhraseFile(found["url"], found["sha256"]).cached.exists() for found in lists)
    lists[1]["url"] += ".gone"
    recipes["1"] = with_filters(home, {"mentions": lists[1]})
    with pytest.raises(PinnedFileError, match="does not exist"), pipeline(every(recipes), dry=True):
        pass


def test_a_file_that_was_replaced_is_refused_though_the_cache_has_the_old_one(home: Path) -> None:
    found = words(home / "replaced.txt", "a word\n")
    recipes = {"0": with_filters(home, {"mentions": found})}
    with pipeline(every(recipes), dry=True):
        pass
    for text in ("a longer word\n", "z word\n"):
        (home / "replaced.txt").write_text(text)
        with pytest.raises(PinnedFileError, match=r"yaml:\d+: filter mentions: .*replaced.txt has another sha256 than"):
            pipeline(every(recipes), dry=True).__enter__()


def test_verify_wants_no_list_that_was_moved_since(home: Path) -> None:
    found = words(home / "moved.txt", "a\n")
    recipe = home / "moved.yaml"
    second = {"mentions": {"entries": ["{name}", "a"], "name": "others"}}
    plain = PLAIN | {"filters": [{"mentions": found}, second]}
    curate(write_recipe(recipe, f"{home}/corpus", f"{home}/moved", "", "", **plain))
    (home / "moved.txt").unlink()
    with pipeline_of(cu.open(f"{home}/moved")) as work:
        assert [item.name for item in work.recipe.filters] == ["mentions", "others"]
    with pytest.raises(PinnedFileError, match="does not exist"):
        pipeline(load_recipe(recipe), dry=True).__enter__()


def test_a_snapshot_of_a_recipe_that_names_two_filters_alike_can_still_be_decided_again(home: Path) -> None:
    """Earlier versions accepted such recipes; today's `curate run` says which two they are."""
    twice = [{"caption": {"min_words": 2}}, {"caption": {"min_words": 3}}]
    recipe = write_recipe(home / "twice.yaml", f"{home}/corpus", f"{home}/twice", "", "", **PLAIN)
    path = Path(curate(recipe).snapshot.store.location("snapshots/000001.json").removeprefix("file://"))
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"recipe": document["recipe"] | {"filters": twice}}))
    with pipeline_of(cu.open(f"{home}/twice")) as work:
        assert [item.name for item in work.recipe.filters] == ["caption", "caption"]
        with plan_decision.decide(work, work.out.open_plan(document["plan"]), lambda n: None) as decided:
            assert set(decision_results.totals(decided.engine)["filtered"]) == {"caption.too_few_words"}  # type: ignore[call-overload]
    recipe.write_text(recipe.read_text().replace("- exact_duplicates: {}", "- caption: {min_words: 3}"))
    with pytest.raises(
        RecipeError, match=r"twice.yaml:(\d+): two filters are called caption, this and the one at .*:\d+"
    ):
        load_recipe(recipe)


def test_snapshots_to_compare_with_are_opened_and_loaded_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    loaded: list[str] = []
    opening, loading = others._open, Decisions.load_others

    def open_one(url: str, *rest: Any) -> Any:
        opened.append(url)
        return opening(url, *rest)

    def load_one(engine: Decisions, name: str, *rest: Any) -> None:
        loaded.append(name)
        loading(engine, name, *rest)

    monkeypatch.setattr(others, "_open", open_one)
    monkeypatch.setattr(Decisions, "load_others", load_one)
    against = {"decontaminate": {"against": f"{home}/eval"}}
    recipes = {str(n): with_filters(home, {"caption": {"min_words": n}}, against) for n in (1, 2, 3)}
    with pipeline(every(recipes), dry=True) as work:
        ask(work, recipes)
    assert opened == [f"{home}/eval"] and len(loaded) == 1
    loaded.clear()
    against = {"against": f"{home}/eval"}
    recipes = {str(n): with_filters(home, {"decontaminate": {**against, "distance": n}}) for n in (1, 2, 3)}
    with pipeline(every(recipes), dry=True) as work:
        found, _ = ask(work, recipes)
    assert len(loaded) == 1, "what they are compared with does not depend on how"
    assert len(found) == 3


def test_settings_are_all_combinations() -> None:
    assert list(settings(["a=1,2", "b=[x,y],z"])) == [
        ("a=1", "b=[x,y]"), ("a=1", "b=z"), ("a=2", "b=[x,y]"), ("a=2", "b=z"),
    ]  # fmt: skip
    assert list(settings([])) == [()]
