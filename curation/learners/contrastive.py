"""CLIP and SigLIP: a dual encoder that pulls a pair's picture and caption together, and pushes all others apart.

When to use: for the learner and the proxies of image-text curation. Losses, with unit vectors x_i, y_j of n pairs, the
learned temperature t and bias c:
- softmax (CLIP): the mean over i of -log softmax_j(t x_i . y_j) at j = i, averaged over both directions.
  Source: 2103.00020, section 2.3 and figure 3; schedule and clipped temperature from its 2.5.
- sigmoid (SigLIP): the sum over i, j of -log sigmoid(z_ij (t x_i . y_j + c)) / n, z_ij = 1 where i = j, else -1.
  Better in small batches, and its terms are those of joint selection. Source: 2303.15343, algorithm 1.

A batch that does not fit into memory is encoded in parts (`micro_batch`): once without gradients, to compute the loss's
gradient with respect to every vector, and once more part by part (GradCache, 2101.06983). The update is the same, for a
third more compute.

In a process group of W, each process holds n / W pairs and computes the loss of their rows and columns of the whole
matrix: all vectors are gathered, 4 D (n - n / W) bytes each way, and no process computes more than n / W rows.

Cost of a step: the FLOPs of three forward passes (`curation.models.cost`) for each pair, and AdamW over the
vocabulary's embedding, which holds four fifths of a proxy's parameters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import cross_entropy, normalize

from curation.core.errors import UserError
from curation.learners.contrastive_losses import contrastive_loss, sigmoid_loss, sigmoid_rows
from curation.learners.kind import LearnerKind
from curation.learners.learner import Learner
from curation.learners.picture_sizes import TrainingView
from curation.learners.training import Training
from curation.models.architecture import build_model, model_config
from curation.models.batches import Examples, SuperBatch, TrainingBatch
from curation.models.dual import DualEncoder, load_tensors
from curation.models.model_outputs import PairEmbeddings
from curation.models.retrieval import evaluate
from curation.models.tokenizer import tokenizer_for
from curation.models.towers import encode_image, encode_text, trim, trimmed_length
from curation.models.weight_shapes import expect_encoder
from curation.models.weights import Weights, read_tensors
from curation.storage.store import StoreOptions

MAX_TEMPERATURE = 100.0  # CLIP clips it there. Source: 2103.00020, section 2.5


@dataclass(frozen=True, kw_only=True)
class Contrastive(LearnerKind):
    """A CLIP (`loss: softmax`) or SigLIP (`loss: sigmoid`): a dual encoder of pictures and captions.

    When to use: samples have captions. Models of one run share a tokenizer. Samples are held out by name. Cost: three
    forward passes of both towers a sample; four where `micro_batch` splits the batch. Source: 2103.00020, 2303.15343.
    Example: contrastive: {model: proxy-s, steps: 2000, batch: 256, loss: sigmoid}
    """

    has_pairs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch}: it is at least 2, as each pair is compared with the others")

    def targets(self, examples: Examples, classes: Sequence[str]) -> Tensor:
        return tokenizer_for(self.model)(examples.captions).to(torch.int32)

    def build(
        self, model: str, training: Training, classes: Sequence[str], device: torch.device | str = "cpu"
    ) -> ClipLearner:
        if _vocabulary(model) != _vocabulary(self.model):
            text = f"{model} and the learner {self.model} have different vocabularies"
            raise UserError(text, fix="name models that share a tokenizer")
        return ClipLearner(model, training, device)

    def check_reference(self, model: str, weights: Weights, options: StoreOptions) -> None:
        expect_encoder(model, weights, options)

    def load_reference(
        self,
        model: str,
        weights: Weights,
        training: Training,
        classes: Sequence[str],
        device: torch.device | str,
        options: StoreOptions,
    ) -> ClipLearner:
        tensors = read_tensors(weights.fetch(options), weights.url)
        own = replace(training, loss="sigmoid" if "logit_bias" in tensors else "softmax")  # not the learner's loss
        learner = self.build(model, own, classes, device)
        load_tensors(learner.module, tensors, model, weights.url)
        return learner


class ClipLearner(Learner):
    """A dual encoder under training."""

    reads_captions: ClassVar[bool] = True

    def __init__(self, model: str, training: Training, device: torch.device | str = "cpu") -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            module = build_model(model)
        if training.loss == "sigmoid":
            initialise_sigmoid(module)
        self._context = int(model_config(model)["text_cfg"].get("context_length", 77))
        super().__init__(model, module, training, device)

    def encode(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Return unit vectors of pictures and captions, float32 `[N, D]` each, with gradients."""
        image, text, *_ = self._encoded(self.sizes.mark_reduced(batch))
        return image, text

    def _encoded(self, shown: TrainingView) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self._forward(*self._inputs(shown))
        return found

    def _inputs(self, shown: TrainingView) -> tuple[Tensor, Tensor, Tensor]:
        return self.on_device(shown.pixels), self._ids(shown.targets), shown.small

    @torch.no_grad()
    def outputs(self, candidates: SuperBatch) -> PairEmbeddings:
        """Return the current model's vectors, float32 `[B, D]` each, with temperature and bias. Changes no weight."""
        bias = getattr(self.module, "logit_bias", None)
        batch = candidates.batch
        with self.autocast():
            pixels, ids = self.on_device(batch.pixels), self._ids(batch.targets)
            image = self.in_parts(lambda some: self.sizes.scoring_features(some, self._image_tower), pixels)
            text = self.in_parts(lambda some: encode_text(self.module, some), ids)
        image, text = (normalize(vector.float(), dim=-1) for vector in (image, text))
        bias = 0.0 if bias is None else float(bias)
        return PairEmbeddings(image, text, float(self._temperature()), bias, self.training.loss)

    def text_lengths(self, targets: Tensor, *, training: bool) -> Counter[int]:
        shares = targets.tensor_split(self.world) if training and self.world > 1 else [targets]
        size, found = self.training.micro_batch if training else 0, Counter[int]()
        for share in shares:
            for part in torch.split(share, size) if 0 < size < len(share) else [share]:
                if len(part):
                    found[min(trimmed_length(self.module, part), self._context)] += len(part)
        return found

    def evaluate(self, held_out: Examples) -> dict[str, Any]:
        """Return retrieval and zero-shot figures; `quality` is recall@5, the mean of both directions."""
        results = evaluate(self.encoder(), held_out)
        if "retrieval" not in results:
            fix = "a larger holdout:, or evaluation: URL"
            raise UserError("there are too few held-out samples to evaluate on", fix=fix)
        ways = [results["retrieval"][f"{way}_recall@5"]["rate"] for way in ("i2t", "t2i")]
        return {"quality": sum(ways) / 2, **results}

    def pair_flops(self) -> float:
        return 2.0 * self.width

    def encoder(self) -> DualEncoder:
        """Return a frozen copy of the current model, with its averaged weights where there are any."""
        module = build_model(self.model)
        load_tensors(module, self.tensors(), self.model, "the learner")
        return DualEncoder(self.model, module, self.device, self.training.precision)

    def _ids(self, ids: Tensor) -> Tensor:
        """Return token ids without common padding, cut to this model's context; the end token stays the last."""
        ids = trim(self.module, ids)
        if ids.shape[1] > self._context:
            ends, end = ids.argmax(1) >= self._context, ids.max()
            ids = ids[:, : self._context].clone()
            ids[ends, -1] = end
        return self.on_device(ids)

    def _image_tower(self, pixels: Tensor) -> Tensor:
        return encode_image(self.module, pixels)

    def _encode(self, pixels: Tensor, targets: Tensor, small: Tensor) -> tuple[Tensor, ...]:
        """Return what the loss depends on: unit vectors, the temperature, and the bias of a sigmoid loss."""
        with self.autocast():
            image = self.sizes.training_features(pixels, small, self._image_tower)
            text = encode_text(self.module, targets)
        vectors = normalize(image.float(), dim=-1), normalize(text.float(), dim=-1)
        bias: tuple[Tensor, ...] = (self.module.logit_bias,) if self.training.loss == "sigmoid" else ()  # type: ignore[assignment]
        return (*vectors, self._temperature(), *bias)

    def _backward(self, shown: TrainingView) -> Tensor:
        loss = self._loss(*self._encoded(shown))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _backward_in_parts(self, shown: TrainingView, size: int) -> Tensor:
        parts = [
            TrainingView(*columns) for columns in zip(*(torch.split(column, size) for column in shown), strict=True)
        ]
        with torch.no_grad():
            encoded = [self._encode(*self._inputs(part)) for part in parts]
        vectors = [torch.cat(columns) for columns in zip(*(found[:2] for found in encoded), strict=True)]
        ends = [tensor.detach().clone().requires_grad_() for tensor in (*vectors, *encoded[0][2:])]
        loss = self._loss(*ends)
        loss.backward()  # type: ignore[no-untyped-call]
        image, text, *scales = (end.grad for end in ends)
        assert image is not None and text is not None
        gradients = list(zip(torch.split(image, size), torch.split(text, size), strict=True))
        for place, (part, ways) in enumerate(zip(parts, gradients, strict=True)):
            last = place == len(parts) - 1
            with self._accumulate(last):
                found = self._encoded(part)
                torch.autograd.backward(found if last else found[:2], (*ways, *scales) if last else ways)
        return loss

    def _loss(self, image: Tensor, text: Tensor, temperature: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.world > 1:
            return self._share_of_loss(image, text, temperature, bias)
        if bias is not None:
            return sigmoid_loss(image, text, temperature, bias)
        return contrastive_loss(image, text, temperature)

    def _share_of_loss(self, image: Tensor, text: Tensor, temperature: Tensor, bias: Tensor | None) -> Tensor:
        """Return the loss of this process's rows and columns of the matrix; the mean over processes is the batch's.

        all_gather sends summed gradients back to the process of each vector; DistributedDataParallel divides them.
        """
        images, texts = (torch.cat(all_gather(way)) for way in (image, text))  # type: ignore[no-untyped-call]
        matched = torch.arange(len(image), device=image.device) + self.rank * len(image)
        if bias is not None:
            return sigmoid_rows(temperature * image @ texts.T + bias, matched)
        rows, columns = temperature * image @ texts.T, temperature * text @ images.T
        return (cross_entropy(rows, matched) + cross_entropy(columns, matched)) / 2

    def _temperature(self) -> Tensor:
        scale: Tensor = self.module.logit_scale  # type: ignore[assignment]
        return scale.exp().clamp(max=MAX_TEMPERATURE)


def initialise_sigmoid(module: nn.Module) -> None:
    """Set SigLIP's initial temperature and bias, by which every pair counts as a mismatch, as almost all are.

    Source: 2303.15343, section 3.2.
    """
    with torch.no_grad():
        module.logit_scale.fill_(math.log(10))  # type: ignore[operator]
    module.logit_bias = nn.Parameter(torch.tensor(-10.0))


def _vocabulary(model: str) -> int:
    """Return the number of tokens of a model's vocabulary."""
    return int(model_config(model)["text_cfg"].get("vocab_size", 49408))
