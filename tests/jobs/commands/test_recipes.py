"""`curate recipes`: every recipe that ships is one, says what it needs, and does what it says on a small corpus."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from builders import write_corpus, write_weights
from click.testing import CliRunner

from curation.core.errors import UnknownNameError
from curation.curating.vectors import write_clusters, write_vectors
from curation.recipes.curation_recipe import Recipe, parse_recipe
from curation.recipes.learning_recipe import parse_learn_recipe
from curation.recipes.yaml_document import is_of_learning
from jobs.commands.recipes import PLACEHOLDER, about, fill, needs, recipe_library, recipes

CURATING = sorted(name for name, text in recipe_library().items() if not is_of_learning(text))
BASELINES = [
    name for name in CURATING if name not in ("openmoji-icons", "doubtful-labels")
]  # read files of `make demo`


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(recipes, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", sorted(recipe_library()))
def test_every_recipe_parses(name: str) -> None:
    text = recipe_library()[name]
    values = {"model": "proxy-mu"}
    filled = PLACEHOLDER.sub(
        lambda match: "ab" * 32 if "sha256" in match[1] else values.get(match[1], f"some/{match[1]}"), text
    )
    (parse_learn_recipe if is_of_learning(text) else parse_recipe)(filled, name)
    assert text.startswith("# ") and 20 < len(about(text)) < 160


def test_ls_and_show() -> None:
    rows = {row["name"]: row for row in json.loads(invoke("ls", "--json"))}
    assert set(rows) == set(recipe_library()) and rows["datacomp-basic"]["needs"] == ["corpus", "output"]
    assert all(name in invoke("ls") for name in rows)
    assert invoke("show", "dfn") == recipe_library()["dfn"]
    filled = invoke("show", "datacomp-basic", "--fill", "corpus=s3://pool/it's: here", "--fill", "output=out")
    recipe = parse_recipe(filled)
    assert (recipe.corpus, recipe.output) == (("s3://pool/it's: here",), "out")
    filled = invoke("show", "datacomp-basic", "--fill", "corpus=data/😀", "--fill", "output=out")
    assert parse_recipe(filled).corpus == ("data/😀",)


def test_mistakes() -> None:
    with pytest.raises(UnknownNameError) as error:
        invoke("show", "datacomp-basik")
    assert error.value.fix == "did you mean datacomp-basic?"
    with pytest.raises(UnknownNameError, match=r"has no placeholder \{corpse\}"):
        fill(recipe_library()["dfn"], ["corpse=1"])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A value for every placeholder, real files among them."""
    home = tmp_path_factory.mktemp("parts")
    write_corpus(home / "corpus", 2, 40)
    encoder = {"model": "proxy-mu", "weights": f"{home}/w.safetensors", "sha256": write_weights(home / "w.safetensors")}
    (home / "names.txt").write_text("thing 3\nshard 1\nabsent\n")
    names = {"url": f"{home}/names.txt", "sha256": sha256((home / "names.txt").read_bytes()).hexdigest()}
    common = {**encoder, "data": f"{home}/corpus", "out": f"{home}/files"}
    files = {
        "names": names,
        "entries": names,
        "pool": write_vectors(**common, samples=30),
        "target": write_vectors(**common, samples=3),
        "centres": write_clusters(**common, clusters=8, samples=None, of="image", seed=0),
    }
    listed = {name: str(file["url"]) for name, file in files.items()}
    hashed = {f"{name}_sha256": str(file["sha256"]) for name, file in files.items()}
    return {**encoder, **listed, **hashed, "corpus": f"{home}/corpus", "output": f"{home}/out", "home": str(home)}


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_runs(name: str, parts: dict[str, str], inline: None) -> None:
    from curation.curating.pipeline import pipeline
    from jobs.commands.run import run_steps

    text = recipe_library()[name]
    recipe = _small(fill(text, [f"{key}={parts[key]}" for key in needs(text)]), name, parts)
    with pipeline(recipe) as work:
        samples = run_steps(work, None)["samples"]
    dropped = samples["filtered"]
    assert samples["seen"] == samples["kept"] + sum(dropped.values()) + sum(samples["quarantined"].values())
    assert 0 < samples["kept"] < samples["seen"] - sum(samples["quarantined"].values()), dropped
    assert {reason.partition(".")[0] for reason in dropped} <= {item.name for item in recipe.filters}


def _small(text: str, name: str, parts: dict[str, str]) -> Recipe:
    """With limits that fit small pictures and a small corpus; one store of scores for all."""
    text = (
        text.replace("min_side: 200", "min_side: 72")
        .replace("t: 20000", "t: 2")
        .replace("min_words: 2,", "min_words: 3,")
    )
    overrides = [f"output={parts['home']}/{name}", f"scores={parts['home']}/scores", "compute.max_actors=1"]
    overrides.append("limits.max_quarantined=1")  # the corpus has flaws
    return parse_recipe(text, name, overrides)
