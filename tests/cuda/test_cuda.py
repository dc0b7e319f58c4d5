"""What only a GPU can show: the same numbers as on a CPU, to rounding, and of its own the same bits again.

Skipped where there is none. Everything here is tested on CPUs too; what differs is kernels, NCCL, and who holds memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import write_corpus, write_recipe, write_weights
from click.testing import CliRunner
from learning_runs import go, quiet, start
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from curation.learners.classification import ClassLearner
from curation.learners.contrastive import ClipLearner
from curation.learners.learner import Learner
from curation.learners.training import Training
from curation.models.batches import SuperBatch, TrainingBatch
from curation.models.dual import load_dual_encoder
from curation.models.tokenizer import tokenizer_for
from curation.models.weights import read_tensors
from curation.recipes.learning_recipe import LearnRecipe, parse_learn_recipe
from curation.selection.policy import Policy
from curation.storage.store import open_store

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
STEPS, BATCH = 12, 16
CUDA, CPU = torch.device("cuda"), torch.device("cpu")

Make = Callable[..., LearnRecipe]


def pixels(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def batch(count: int = BATCH, seed: int = 0) -> TrainingBatch:
    captions = [f"a picture {row} of {seed}" for row in range(count)]
    return TrainingBatch(torch.from_numpy(pixels(count, seed)), tokenizer_for("proxy-mu")(captions))


def labelled(count: int = BATCH, seed: int = 0) -> TrainingBatch:
    return TrainingBatch(torch.from_numpy(pixels(count, seed)), torch.arange(count) % 5)


def learner(kind: str, device: torch.device, **settings: Any) -> Learner:
    training = Training(steps=STEPS, batch=BATCH, lr=1e-3, **settings)
    if kind == "classification":
        return ClassLearner("proxy-mu", list("abcde"), training, device)
    return ClipLearner("proxy-mu", replace(training, loss=kind), device)  # type: ignore[arg-type]


def shown(kind: str, seed: int) -> TrainingBatch:
    return labelled(seed=seed) if kind == "classification" else batch(seed=seed)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 3e-2)])
def test_vectors_are_those_of_a_cpu(precision: str, tolerance: float) -> None:
    ours, theirs = (load_dual_encoder("proxy-mu", None, device, precision) for device in (CUDA, CPU))  # type: ignore[arg-type]
    captions = ["a red heart", "", "arrow " * 60, "!"]
    torch.testing.assert_close(ours.image(pixels(9)).cpu(), theirs.image(pixels(9)), rtol=0, atol=tolerance)
    torch.testing.assert_close(ours.text(captions).cpu(), theirs.text(captions), rtol=0, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_vector_is_the_same_bits_beside_any_others(precision: str) -> None:
    """Batches of one size, as scoring actors fill them up to."""
    encoder = load_dual_encoder("proxy-mu", None, CUDA, precision)  # type: ignore[arg-type]
    some, other = pixels(64), pixels(64, seed=1)
    other[5:20] = some[30:45]
    assert torch.equal(encoder.image(some)[30:45], encoder.image(other)[5:20])


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "classification"])
def test_a_learner_learns_what_it_learns_on_a_cpu(kind: str) -> None:
    ours, theirs = (learner(kind, device, averaging=0.9) for device in (CUDA, CPU))
    for seed in range(3):
        losses = [float(one.step(shown(kind, seed)).loss) for one in (ours, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for averaged in (True, False):
        found, wanted = (one.tensors(averaged=averaged) for one in (ours, theirs))
        # AdamW moves by lr whatever a gradient's size, so where that is rounding, by lr in either direction.
        assert all((found[name] - wanted[name]).float().abs().max() <= 3.1e-3 for name in wanted)
    candidates = SuperBatch(torch.arange(BATCH), shown(kind, 7))
    torch.testing.assert_close(
        ours.outputs(candidates).losses().cpu(), theirs.outputs(candidates).losses(), rtol=2e-2, atol=2e-2
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "classification"])
@pytest.mark.parametrize(
    "settings",
    [{"micro_batch": 5}, {"precision": "bf16"}, {"scoring_size": 32, "reduced": 0.5}, {"compile": True}],
    ids=["in_parts", "bf16", "reduced", "compiled"],
)
def test_settings_work(kind: str, settings: dict[str, Any]) -> None:
    """In parts and compiled, the first loss is that of the plain learner; in bf16 and of smaller pictures about so."""
    plain, other = learner(kind, CUDA), learner(kind, CUDA, **settings)
    losses = [[float(one.step(shown(kind, seed)).loss) for seed in (0, 0, 0)] for one in (plain, other)]
    near = 0.2 if settings.keys() & {"precision", "reduced"} else 1e-3
    assert losses[1][0] == pytest.approx(losses[0][0], rel=near)
    assert losses[1][2] < losses[1][0]
    assert other.outputs(SuperBatch(torch.arange(BATCH), shown(kind, 1))).losses().isfinite().all()


@pytest.mark.parametrize("kind", ["softmax", "classification"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_goes_on_to_the_bit(kind: str, precision: str) -> None:
    straight = learner(kind, CUDA, precision=precision, averaging=0.9)
    for seed in range(6):
        straight.step(shown(kind, seed))
        if seed == 2:
            state = straight.state()
    again = learner(kind, CUDA, precision=precision, averaging=0.9)
    again.restore(state)
    for seed in range(3, 6):
        again.step(shown(kind, seed))
    one, other = straight.state(), again.state()
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_shared_loss_and_its_gradients_travel_by_nccl(loss: str, tmp_path: Path) -> None:
    """In a group of one, which is as many as one GPU takes: the loss that processes share is that of one process."""
    plain, shared = learner(loss, CUDA), learner(loss, CUDA)
    distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        assert isinstance(plain, ClipLearner) and isinstance(shared, ClipLearner)
        shared._forward = DistributedDataParallel(shared._forward)
        inputs = shared.sizes.mark_reduced(batch())
        whole = plain._loss(*plain._encoded(inputs))
        part = shared._share_of_loss(*(*shared._encoded(inputs), None)[:4])
        for value in (whole, part):
            value.backward()
        distributed.all_reduce(part.detach())  # as a step's report does
        torch.testing.assert_close(part, whole)
        for one, other in zip(plain.module.parameters(), shared.module.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("pool"), shards=4, n=60, flaws=False)


@pytest.fixture
def make(corpus: Path, tmp_path: Path) -> Make:
    sha = write_weights(tmp_path / "w.safetensors")
    text = f"""
data: {corpus}
output: {tmp_path}/out
learner: {{contrastive: {{model: proxy-mu, steps: {STEPS}, batch: {BATCH}, averaging: 0.9}}}}
online: {{model: proxy-mu}}
reference: {{model: proxy-mu, weights: {tmp_path}/w.safetensors, sha256: {sha}}}
selection: {{selector: {{learnability: {{gain: 10}}}}, filtering_ratio: 0.5, lag: 2, publish_every: 2}}
holdout: 0.3
evaluate_every: 6
checkpoint_every: 4
"""
    return lambda *overrides: parse_learn_recipe(text, overrides=overrides)


SELECTORS = (
    "selection.selector={learnability: {gain: 10}}",
    "selection.selector={learnability: {gain: 1, loss: softmax}}",
    "selection.selector={learnability: {pick: top}}",
    "selection.selector={joint: {chunks: 4}}",
    "selection.selector={joint: {chunks: 4, loss: sigmoid}}",
    "selection.selector={blend: {online: {start: 0, end: 1}}}",
)


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_run_is_repeated_and_resumed_to_the_bit(make: Make, tmp_path: Path, selector: str) -> None:
    found = go(make(selector), "cuda")
    again = make(selector, f"output={tmp_path}/again")
    run = start(again, "cuda")
    for number, step in enumerate(run.steps(), 1):
        run.record(step)
        if number == 7:
            break  # as if killed
    assert go(again, "cuda")["sha256"] == found["sha256"]
    assert found["device"] == "cuda"


def test_a_run_chooses_as_on_a_cpu(make: Make, tmp_path: Path) -> None:
    """Until rounding has added up to another choice: the first ones."""
    for device in ("cuda", "cpu"):
        go(make(f"output={tmp_path}/{device}"), device)
    ours, theirs = (list(Policy(open_store(f"{tmp_path}/{device}/policy")).steps()) for device in ("cuda", "cpu"))
    for one, other in zip(ours[:3], theirs[:3], strict=True):
        assert one.candidates.tolist() == other.candidates.tolist() and one.chosen.tolist() == other.chosen.tolist()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    ray.shutdown()
    ray.init(
        "local", num_cpus=8, num_gpus=torch.cuda.device_count(), include_dashboard=False,
        _node_ip_address="127.0.0.1", log_to_driver=False,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.ray
def test_a_cluster_is_the_loop_bit_for_bit(make: Make, tmp_path: Path, cluster: None) -> None:
    """Learner and actors share a GPU; NCCL is what Ray Train sets up for it."""
    from actors import learning

    shares = "compute={learners: 1, learner_gpus: 0.5, actors: 2, actor_gpus: 0.25}"
    ours = learning.learn(make(shares, f"output={tmp_path}/there"), quiet, lambda text: None)
    theirs = go(make(f"output={tmp_path}/here"), "cuda")
    assert ours["sha256"] == theirs["sha256"] and ours["curve"] == theirs["curve"]
    assert ours["device"].startswith("cuda")


@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a GPU for each learner")
def test_two_learners_agree_to_rounding(make: Make, tmp_path: Path, cluster: None) -> None:
    from actors import learning

    shares = "compute={learners: 2, learner_gpus: 1, actors: 1, actor_gpus: 0}"
    fewer = "learner.contrastive.steps=6"
    ours = learning.learn(make(shares, fewer, f"output={tmp_path}/there"), quiet, lambda text: None)
    theirs = go(make(fewer, f"output={tmp_path}/here"), "cuda")
    one, other = (read_tensors(found["weights"].removeprefix("file://")) for found in (ours, theirs))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=2e-5)


@pytest.mark.ray
def test_scoring_actors_share_a_gpu(corpus: Path, tmp_path: Path, cluster: None) -> None:
    """The scores of a CPU to rounding; the same bits whatever the batches, since all are filled up to one size."""
    import curation as cu
    from jobs.commands.run import run

    sha = write_weights(tmp_path / "w.safetensors")
    found = {}
    for name, compute in (
        ("cpu", {"batch_size": 64, "max_actors": 1}),
        ("one", {"batch_size": 64, "max_actors": 1, "num_gpus": 1, "decode_tasks": 0}),
        ("two", {"batch_size": 64, "max_actors": 2, "num_gpus": 0.5, "decode_tasks": 2}),
    ):
        output = f"{tmp_path}/{name}"
        recipe = write_recipe(
            tmp_path / f"{name}.yaml", f"{corpus}", output, f"{tmp_path}/w.safetensors", sha, compute=compute
        )
        done = CliRunner().invoke(run, [str(recipe)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found[name] = cu.open(output).manifest.query("select uid, clip_score from manifest order by uid")
    scores = {name: np.array(table["clip_score"].to_pylist(), float) for name, table in found.items()}
    assert all(table["uid"].to_pylist() == found["cpu"]["uid"].to_pylist() for table in found.values())
    assert np.array_equal(scores["one"], scores["two"], equal_nan=True)
    np.testing.assert_allclose(scores["one"], scores["cpu"], atol=1e-4)
