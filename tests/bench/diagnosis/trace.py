"""The trace part: how many of the first training samples are of the cause whose failures were asked for.

Every method ranks the same training pictures for the query failures of each cause, by the product's gradients and
directions, with the final weights (`final`) and with three earlier checkpoints added (`checkpoints`). `others` does the
same in other pictures. Comparators: TracInCP of captum, in its own environment, and cleanlab's ranking by
probabilities out of fold. `loss` and cleanlab do not know which failures were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from bench.diagnosis.bars import Bar, spread, table
from bench.diagnosis.planted import FLIP, MODEL, PLANTED, Planted, failures, plant
from bench.diagnosis.trace_peers import captum_scores, cleanlab_scores
from torch import Tensor

from curation.diagnosis.pictures import LabelledPictures
from curation.diagnosis.trace_methods import DAMPING, LOSS, TRACE_METHODS, DualFisher, scaled
from curation.gradients import FisherSystem, GradientSketch, class_losses
from curation.models.architecture import preprocess_for
from curation.models.towers import PixelNormaliser
from curation.models.trained_classifier import load_classifier
from curation.models.weights import Weights

FINAL, CHECKPOINTS = "final", "checkpoints"
OURS = "dual_fisher"
CAPTUM, CLEANLAB = "captum TracInCP", "cleanlab self_confidence"
BELOW = (LOSS, "dot", "diagonal_fisher")  # methods that ours must beat threefold
MOST = 200  # query failures that are traced
ASKED, TIMES, AUROC, OTHER = 0.5, 3, 0.95, 0.1
PICTURES = 256  # normalised at once

Scores = dict[str, Tensor]  # ranking -> r(z) of the training samples, float [N]


def measure(seed: int) -> dict[str, float]:
    """Return the figures of a seed in X-rays, by `cause|ranking|weights|figure`."""
    return figures(plant(seed), peers=True)


def figures(planted: Planted, *, peers: bool) -> dict[str, float]:
    """Rank the training samples of a failing model for each of its causes, and judge the first of every ranking."""
    asked = {cause.name: failures(planted, cause.name)["query"] for cause in planted.causes}
    asked = {name: some.take(range(min(MOST, len(some)))) for name, some in asked.items()}
    found: dict[str, float] = {f"{name}|failures": len(some) for name, some in asked.items()}
    for name, rankings in ranked(planted, asked, peers=peers).items():
        number = 1 + [cause.name for cause in planted.causes].index(name)
        for ranking, scores in rankings.items():
            found |= {f"{name}|{ranking}|{what}": value for what, value in judged(scores, planted.cause, number)}
    return found


def ranked(planted: Planted, asked: Mapping[str, LabelledPictures], *, peers: bool = False) -> dict[str, Scores]:
    """Return cause -> rankings, `method|weights`, of the training samples for its failures."""
    files = [planted.subject.weights, *planted.checkpoints]
    training = [gradients(planted, planted.training, file) for file in files]
    systems = Systems(training)
    found: dict[str, Scores] = {}
    loss = losses(planted, planted.training)
    for name, some in asked.items():
        failed = [gradients(planted, some, file) for file in files]
        found[name] = {f"{LOSS}|{FINAL}": loss}
        for method in TRACE_METHODS:
            for weights, used in ((FINAL, 1), (CHECKPOINTS, len(files))):
                found[name][f"{method}|{weights}"] = systems.scores(method, failed[:used], planted.subject.last_layer)
    if peers:
        common = {f"{CLEANLAB}|{FINAL}": cleanlab_scores(planted)}
        for name, scores in captum_scores(planted, asked).items():
            found[name] |= {**common, f"{CAPTUM}|{CHECKPOINTS}": scores}
    return found


class Systems:
    """Scores by the product's methods; each system of Fisher information is factored once for all failures.

    training: gradients `[N, D]` at each checkpoint. N is at most the number of samples that `trace` draws, so all are
    drawn. tests/bench/test_diagnosis.py compares the scores with those of `curate diagnose trace`.
    """

    def __init__(self, training: Sequence[Tensor]) -> None:
        self._training = training
        self._systems: dict[tuple[int, bool], FisherSystem] = {}

    def scores(self, name: str, failed: Sequence[Tensor], last: int) -> Tensor:
        """Return r(z) of a method, float `[N]`. failed: gradients of failures at each checkpoint, or at the first."""
        method, total = TRACE_METHODS[name], torch.zeros(len(self._training[0]))
        for number, some in enumerate(failed):
            own, asked = scaled(self._training[number], method, last), scaled(some, method, last)
            if isinstance(method, DualFisher):
                key = number, method.unit
                if key not in self._systems:
                    self._systems[key] = FisherSystem(own, DAMPING)
                way = self._systems[key].solve(asked.mean(0)).float()
            else:
                way = method.direction(asked, own)
            found = -(own @ way)
            total += found / found.std() if len(failed) > 1 and name != "dot" else found
        return total


def gradients(planted: Planted, pictures: LabelledPictures, weights: Weights) -> Tensor:
    """Return sketched gradients, float32 `[N, D]`, as the scorer `gradient` computes them."""
    module, classes = load_classifier(MODEL, weights)
    subject, normalise = planted.subject, PixelNormaliser(preprocess_for(MODEL))
    sketch = GradientSketch(module, class_losses, numbers=subject.numbers, seed=subject.seed)
    targets = torch.nn.functional.one_hot(pictures.targets, len(classes)).float()
    pairs = zip(pictures.pixels.split(PICTURES), targets.split(PICTURES), strict=True)
    return torch.cat([sketch(normalise(some), wanted) for some, wanted in pairs])


@torch.no_grad()
def losses(planted: Planted, pictures: LabelledPictures) -> Tensor:
    """Return the final model's loss of each picture, `[N]`."""
    module, _ = load_classifier(MODEL, planted.subject.weights)
    normalise = PixelNormaliser(preprocess_for(MODEL))
    pairs = zip(pictures.pixels.split(PICTURES), pictures.targets.split(PICTURES), strict=True)
    return torch.cat([class_losses(module, normalise(some), targets) for some, targets in pairs])


def judged(scores: Tensor, cause: Tensor, asked: int) -> Iterator[tuple[str, float]]:
    """Yield the shares of the first samples that are of the cause, of another one and flipped, and the AUROC."""
    first = cause[scores.argsort(descending=True, stable=True)[:PLANTED]]
    yield "asked", float((first == asked).double().mean())
    yield "other", float(((first > 0) & (first != asked)).double().mean())
    yield "flips", float((first == FLIP).double().mean())
    yield "auroc", auroc(scores, cause == asked)


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Return the share of pairs of a positive and a negative sample that are in order; ties count half."""
    from scipy.stats import rankdata

    ranks, hits = rankdata(scores.double().numpy()), int(positive.sum())
    return float((ranks[positive.numpy()].sum() - hits * (hits + 1) / 2) / (hits * (len(ranks) - hits)))


def lines(found: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the lines of the page: bars, then a table of every method."""
    return [*table(bars(found)), *methods_table(found)]


def bars(found: Sequence[Mapping[str, float]]) -> Iterator[Bar]:
    """Yield the bars, for the final weights alone and with checkpoints."""
    for weights in (FINAL, CHECKPOINTS):
        title = f"`{OURS}`, {'final weights' if weights == FINAL else 'with three earlier checkpoints'}"
        asked, auc = (values(found, f"{OURS}|{weights}", what) for what in ("asked", "auroc"))
        other = values(found, f"{OURS}|{weights}", "other")
        yield Bar(
            f"{title}: at least {ASKED} of the first {PLANTED} are of the cause", spread(asked), np.mean(asked) >= ASKED
        )
        yield Bar(f"{title}: AUROC at least {AUROC}", spread(auc, 3), np.mean(auc) >= AUROC)
        best = max(np.mean(values(found, f"{name}|{one}", "asked")) for name, one in rivals(found, weights))
        yield Bar(
            f"{title}: at least {TIMES} times the best of loss, dot product and diagonal Fisher",
            f"{np.mean(asked):.2f} against {best:.2f}", np.mean(asked) >= TIMES * best,
        )  # fmt: skip
        cosine = np.mean(values(found, f"cosine|{weights}", "asked"))
        yield Bar(f"{title}: not below cosine", f"{np.mean(asked):.2f} against {cosine:.2f}", np.mean(asked) >= cosine)
        if max(other) > 0 or _causes(found) > 1:
            yield Bar(
                f"{title}: at most {OTHER} of the first {PLANTED} are of the other cause",
                spread(other, lowest=False), np.mean(other) <= OTHER,
            )  # fmt: skip


def rivals(found: Sequence[Mapping[str, float]], weights: str) -> Iterator[tuple[str, str]]:
    """Yield the rankings that ours must beat."""
    for name in BELOW:
        yield name, FINAL if name == LOSS else weights


def methods_table(found: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Yield a table of every ranking: shares among the first samples, and AUROC, over causes and seeds."""
    yield f"Of the first {PLANTED}, mean over causes and seeds (in brackets: the worst of them):"
    yield ""
    yield "| method | weights | of the cause | of the other cause | flips | AUROC |"
    yield "|---|---|---:|---:|---:|---:|"
    keys = [key.split("|") for key in found[0] if key.endswith("|asked")]
    for name, weights in dict.fromkeys((key[1], key[2]) for key in keys):
        cells = []
        for what, worst, digits in (("asked", min, 2), ("other", max, 2), ("flips", max, 2), ("auroc", min, 3)):
            some = values(found, f"{name}|{weights}", what)
            cells.append(f"{np.mean(some):.{digits}f} ({worst(some):.{digits}f})")
        yield f"| `{name}` | {weights} | {' | '.join(cells)} |"
    yield ""


def values(found: Sequence[Mapping[str, float]], ranking: str, what: str) -> list[float]:
    """Return one figure of a ranking of every seed and cause."""
    return [value for one in found for key, value in one.items() if key.endswith(f"|{ranking}|{what}")]


def _causes(found: Sequence[Mapping[str, float]]) -> int:
    return sum(key.endswith("|failures") for key in found[0])
