"""The distributed form against the definition: the same bits, whatever lags, dies or joins."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from builders import PLAIN, write_corpus, write_recipe, write_weights
from running import curate
from services import wait_until

from actors import learning
from actors.blocks import BlockKeeper, SharedBlocks
from actors.ray_cluster import ClusterError
from curation.core.errors import NotFoundError, UserError
from curation.learning.data import read_data
from curation.learning.learn import learn as learn_here
from curation.learning.pinned_input import pin_input
from curation.models.weights import read_tensors
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.selection.policy import Policy, PolicyStep
from curation.storage.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
STEPS = 14
CLASSES = "learner={classification: {model: proxy-mu, steps: 6, batch: 8, label: name}}"

Make = Callable[..., LearnRecipe]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Four CPUs in name, so that learners and actors find room on any machine."""
    torch.set_num_threads(1)
    ray.shutdown()  # of the tests that this process ran before
    ray.init("local", num_cpus=4, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Recipes over a snapshot whose samples have weights, so that all that follows holds of weighted runs."""
    home = tmp_path_factory.mktemp("learning")
    corpus = write_corpus(home / "pool", shards=2, n=60, flaws=False)
    curating = write_recipe(home / "r.yaml", f"{corpus}", f"{home}/curated", "", "", **PLAIN)
    uids = curate(curating).snapshot.manifest.query("select uid from manifest where decision = 'kept' order by uid")
    listed = (f"{uid}\t{1 + place % 3}" for place, uid in enumerate(uids["uid"].to_pylist()))
    (home / "weights.tsv").write_text("\n".join(listed))
    assert curate(curating, f"weights={home}/weights.tsv").snapshot.weights()
    sha = write_weights(home / "w.safetensors")
    text = f"""
data: {home}/curated@2
output: {home}/out
learner: {{contrastive: {{model: proxy-mu, steps: {STEPS}, batch: 8, averaging: 0.9}}}}
online: {{model: proxy-mu}}
reference: {{model: proxy-mu, weights: {home}/w.safetensors, sha256: {sha}}}
selection: {{selector: {{learnability: {{gain: 10}}}}, filtering_ratio: {{start: 0.7, end: 0.5}}}}
holdout: 0.3
evaluate_every: 7
checkpoint_every: 4
device: cpu
"""
    return lambda *overrides: parse_learn_recipe(text, overrides=overrides)


def quiet(label: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda n: None)


def here(recipe: LearnRecipe) -> dict[str, Any]:
    return learn_here(recipe, torch.device("cpu"), quiet, lambda text: None)


def there(recipe: LearnRecipe) -> dict[str, Any]:
    return learning.learn(recipe, quiet, lambda text: None)


def policy(found: dict[str, Any]) -> list[PolicyStep]:
    return list(Policy(open_store(found["weights"].rpartition("/")[0] + "/policy")).steps())


def qualities(found: dict[str, Any]) -> list[tuple[int, float]]:
    """The learning curve without its cost: after any death, some work is repeated."""
    return [(point["updates"], point["quality"]) for point in found["curve"]]


def same_choices(ours: dict[str, Any], theirs: dict[str, Any], *, scores: bool = True) -> None:
    for one, other in zip(policy(ours), policy(theirs), strict=True):
        assert one.candidates.tolist() == other.candidates.tolist() and one.chosen.tolist() == other.chosen.tolist()
        assert one.lag == other.lag and (one.models == other.models or not scores)
        if scores and one.scores is not None and other.scores is not None:
            assert one.scores.tolist() == other.scores.tolist()


@pytest.fixture(scope="module")
def undisturbed(make: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process, a lag of 3, weights published every second update: what the shaken run has to equal."""
    out = tmp_path_factory.mktemp("undisturbed")
    return here(make(f"output={out}", "selection.lag=3", "selection.publish_every=2"))


@pytest.fixture(scope="module")
def distributed(make: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run with one learner and no lag: its folder, and what it found. To start a run's processes takes 20 s."""
    out = tmp_path_factory.mktemp("distributed")
    return out, there(make("compute={learners: 1}", f"output={out}"))


def test_lag_0_is_the_loop_in_one_process_bit_for_bit(
    make: Make, tmp_path: Path, distributed: tuple[Path, dict[str, Any]]
) -> None:
    out, ours = distributed
    theirs = here(make(f"output={tmp_path}/here"))
    assert ours["sha256"] == theirs["sha256"] and ours["flops"] == theirs["flops"] and ours["curve"] == theirs["curve"]
    same_choices(ours, theirs)
    hashes = [step.models["online"] for step in policy(ours)]
    assert len(set(hashes)) == STEPS and all(len(sha) == 64 for sha in hashes)
    assert there(make("compute={learners: 1}", f"output={out}"))["reused"]


@pytest.mark.parametrize(("loss", "parts"), [("softmax", 3), pytest.param("sigmoid", 0, marks=pytest.mark.soak)])
def test_two_learners_agree_to_rounding(loss: str, parts: int, make: Make, tmp_path: Path) -> None:
    options = (f"learner.contrastive.loss={loss}", "learner.contrastive.steps=6", "learner.contrastive.lr=1.0e-3")
    options += (f"learner.contrastive.micro_batch={parts}",)
    ours = there(make(*options, "compute={learners: 2}", f"output={tmp_path}/there"))
    theirs = here(make(*options, f"output={tmp_path}/here"))
    same_choices(ours, theirs, scores=False)
    one, other = (read_tensors(found["weights"].removeprefix("file://")) for found in (ours, theirs))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    "overrides",
    [
        (CLASSES, "online=learner", "reference={train: POOL}", "selection.stop=0.6", "selection.lag=1"),
        pytest.param(
            ("online=learner", "reference={train: POOL}", "learner.contrastive.steps=6", "selection.lag=2"),
            marks=pytest.mark.soak,
        ),
        pytest.param((CLASSES, "reference={train: POOL}"), marks=pytest.mark.soak),
        pytest.param(
            ("learner.contrastive.steps=8", "selection.stop=0.4", "selection.lag=1"), marks=pytest.mark.soak
        ),
    ],
    ids=[
        "classes, the learner scores for itself, a reference is trained beside it, and selection stops",
        "the learner scores for itself, and a reference is trained beside it", "classes", "selection stops",
    ],
)  # fmt: skip
def test_other_roles_and_kinds(make: Make, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    told = [text.replace("POOL", make().data[0]) for text in overrides]
    ours = there(make(*told, "compute={learners: 1}", f"output={tmp_path}/there"))
    theirs = here(make(*told, f"output={tmp_path}/here"))
    assert ours["sha256"] == theirs["sha256"] and ours["flops"] == theirs["flops"] and ours["curve"] == theirs["curve"]
    same_choices(ours, theirs)


def test_whoever_is_killed_the_weights_are_the_same(make: Make, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    recipe = make("selection.lag=3", "selection.publish_every=2", "compute={learners: 1, actors: 2}",
                  f"output={tmp_path}")  # fmt: skip
    killed: list[str] = []
    over = threading.Event()

    def shake() -> None:
        """kill -9 of a learner once it has a checkpoint, of actors and of the feed at random."""
        random.seed(0)
        for name in ("ChoosingActor", "RayTrainWorker", "ChoosingActor", "FeedActor"):
            while not over.is_set() and not (name == "ChoosingActor" or (tmp_path / "checkpoints").exists()):
                time.sleep(0.01)
            time.sleep(random.random() / 2)
            while not over.is_set() and not kill(name):
                time.sleep(0.01)
            killed.append(name)

    thread = threading.Thread(target=shake)
    thread.start()
    try:
        ours = there(recipe)
    finally:
        over.set()
        thread.join()
    assert killed[:2] == ["ChoosingActor", "RayTrainWorker"], "nothing was disturbed"
    assert ours["sha256"] == undisturbed["sha256"] and qualities(ours) == qualities(undisturbed)
    same_choices(ours, undisturbed)
    parts, again = dict(ours["flops"]["parts"]), any(ours["repeated"].values())
    repeated = parts.pop("repeated", 0.0)
    assert parts == undisturbed["flops"]["parts"] and (repeated > 0) == again
    totals = {name: value + repeated for name, value in undisturbed["flops"]["totals"].items()}
    assert ours["flops"]["totals"] == pytest.approx(totals)
    assert max(step.lag for step in policy(ours)) == 3


@pytest.mark.soak
def test_windows_in_the_object_store_are_those_of_one_process_whoever_reads_them_dies(
    make: Make, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "pool", shards=9, n=30, flaws=False)
    options = f"data={corpus}", f"memory={120 * 3 * 64 * 64}", "selection.filtering_ratio=0.5", "selection.lag=2"
    theirs = here(make(*options, f"output={tmp_path}/here"))
    out, killed, over = tmp_path / "there", list[bool](), threading.Event()

    def shake() -> None:
        while not over.is_set() and not (out / "checkpoints").exists():
            time.sleep(0.01)
        killed.append(kill("BlockKeeper"))

    thread = threading.Thread(target=shake)
    thread.start()
    try:
        ours = there(make(*options, "compute={learners: 1}", f"output={out}"))
    finally:
        over.set()
        thread.join()
    assert killed == [True], "nothing was disturbed"
    assert ours["sha256"] == theirs["sha256"] and qualities(ours) == qualities(theirs)
    same_choices(ours, theirs)
    assert len(Policy(open_store(f"{out}/policy")).shards) > 4  # of several windows


def test_memory_holds_of_blocks_by_reference_too_and_what_could_not_be_read_is_read_again(
    make: Make, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "pool", shards=9, n=30, flaws=False)
    recipe = make(f"data={corpus}", f"memory={120 * 3 * 64 * 64}", "compute={learners: 1}", f"output={tmp_path}/out")
    data = read_data(recipe, pin_input(recipe), quiet)
    keeper = BlockKeeper([ray.put(data)], 2)
    assert keeper.ready() == 30
    for ordinal in range(9):
        ray.get(keeper.reference(ordinal)[0])
        assert keeper.known().samples[ordinal]
        assert keeper._samples() <= 120 or len(keeper._held) == 1
    actor = ray.remote(BlockKeeper).options(max_concurrency=4).remote([ray.put(data)], 2)
    shared = SharedBlocks(actor, data.candidates)
    first = shared.extent(0, 0)
    away = [data.candidates.shards[ordinal][1].ref.key for ordinal in range(9) if ordinal not in first.ordinals]
    lost = next(ordinal for ordinal in range(9) if ordinal not in first.ordinals)
    for key in away:
        (corpus / key).rename(tmp_path / key)
    for ask in (lambda: shared.block(lost), lambda: shared.extent(1, 0), lambda: shared.block(lost)):
        with suppress(NotFoundError, ray.exceptions.RayError):  # some of them may have been read ahead
            ask()
    for key in away:
        (tmp_path / key).rename(corpus / key)
    assert len(shared.block(lost)) and shared.extent(1, 0).size


def test_a_cluster_without_room_is_waited_for_and_the_progress_says_so(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def note(text: str) -> None:
        if text.startswith("`compute` requires 34 CPUs"):
            raise Seen

    monkeypatch.setenv("RAY_ADDRESS", "another user's cluster")
    recipe = make("compute={learners: 33}", "learner.contrastive.batch=33", f"output={tmp_path}/large")
    with pytest.raises(Seen):
        learning.learn(recipe, quiet, note)


def kill(name: str) -> bool:
    """kill -9 of one process of this cluster that runs the actor `name`; whether there was one."""
    for pid in running(name):
        try:
            os.kill(pid, signal.SIGKILL)
            return True
        except ProcessLookupError:
            continue
    return False


def running(name: str) -> Iterator[int]:
    """The processes of this cluster that run the actor `name`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(f"ray::{name}".encode()) and _ours(int(folder.name)):
                yield int(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _ours(pid: int) -> bool:
    """Whether a process descends from this one: another Ray may run on this machine."""
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


@pytest.mark.soak
def test_what_needs_no_scoring_needs_no_feed(make: Make, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    run = undisturbed["weights"].rpartition("/")[0].removeprefix("file://")
    ours = there(
        make("selection.selector={replay: {run: " + run + "}}", "compute={learners: 1}", f"output={tmp_path}/replay")
    )
    assert ours["sha256"] == undisturbed["sha256"]
    assert ours["flops"]["totals"]["full"] == undisturbed["flops"]["totals"]["full"]


@pytest.mark.soak
def test_an_error_of_the_user_ends_the_run_at_once(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scores are not finite|the loss is"):
        there(make("learner.contrastive.lr=1.0e+30", "learner.contrastive.max_norm=1.0e+30", "compute={learners: 1}",
                   f"output={tmp_path}/inf"))  # fmt: skip


@pytest.mark.parametrize(("compute", "says"), [("{learners: 1, learner_gpus: 4}", "requires 4 GPUs for its learners"),
                                               ("{learners: 32}", "CPUs for its learners and one actor")])  # fmt: skip
def test_more_than_this_machine_has_is_told_at_once(make: Make, tmp_path: Path, compute: str, says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        there(make(f"compute={compute}", "learner.contrastive.batch=32", f"output={tmp_path}/large"))


def test_so_does_one_that_shows_while_the_learners_are_made(
    make: Make, tmp_path: Path, distributed: tuple[Path, dict[str, Any]]
) -> None:
    out = shutil.copytree(distributed[0], tmp_path / "out")
    (out / "summary.json").unlink()
    before = set(threading.enumerate())
    with pytest.raises(UserError, match="is of another run"):
        there(make("compute={learners: 1}", "learner.contrastive.lr=1.0e-4", f"output={out}"))
    # A thread that waits in Ray while a command ends, and Ray with it, takes the process down.
    assert set(threading.enumerate()) == before
    names = ("RayTrainWorker", "TrainController", "TrainDriver")
    wait_until(lambda: not any(any(running(name)) for name in names), "the actors of Ray Train to end")
