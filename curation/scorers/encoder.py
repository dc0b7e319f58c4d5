"""Base of all scorers that use a dual encoder: its architecture, weights and precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from curation.models import Weights, preprocess_for
from curation.models.architecture import encoder_imports
from curation.models.identity import encoder_identity
from curation.scorers.scorer import Batch, CaptionNumberScorer

if TYPE_CHECKING:
    import torch

    from curation.models.dual import DualEncoder
    from curation.shards.images import Preprocess
    from curation.storage.store import StoreOptions


@dataclass(frozen=True, kw_only=True)
class Encoder(CaptionNumberScorer):
    """A dual encoder in a recipe. Scorers that name the same one share its forward passes."""

    model: str
    weights: str
    sha256: str
    precision: Literal["fp32", "bf16"] = "fp32"

    def encoder(self) -> Mapping[str, Any]:
        """Everything that determines the encoder's vectors, for `identity`."""
        return encoder_identity(self.model, self.sha256, self.precision)

    def views(self) -> Sequence[Preprocess]:
        return (preprocess_for(self.model),)

    def files(self) -> Sequence[Weights]:
        return (Weights(self.weights, self.sha256),)

    def imports(self) -> Sequence[str]:
        return encoder_imports(self.model)

    def check(self, options: StoreOptions | None = None) -> None:
        """Raise `WeightsError` for weights of another architecture; only the file's header is read."""
        self.width(options)

    def width(self, options: StoreOptions | None = None) -> int:
        """Width of the encoder's vectors. Raises `WeightsError` for weights of another architecture."""
        from curation.models.weight_shapes import expect_encoder

        return expect_encoder(self.model, Weights(self.weights, self.sha256), options)

    def open(self, device: torch.device, options: StoreOptions | None = None) -> EncoderPasses:
        """Load the encoder onto `device`, once a process."""
        from curation.models.shared_encoder import shared_dual_encoder

        weights = Weights(self.weights, self.sha256)
        return EncoderPasses(shared_dual_encoder(self.model, weights, device, self.precision, options))


@dataclass(frozen=True)
class EncoderPasses:
    """Forward passes of a loaded encoder over a batch, each computed once: unit vectors, float32 [N, D]."""

    encoder: DualEncoder

    def image(self, batch: Batch) -> torch.Tensor:
        """Vectors of the images, float32 [N, D]."""
        view, device = self.encoder.preprocess, self.encoder.device
        return batch.once((self.encoder, "image"), lambda: self.encoder.image(batch.tensor(view, device)))

    def text(self, batch: Batch) -> torch.Tensor:
        """Vectors of the captions, float32 [N, D]."""
        return batch.once((self.encoder, "text"), lambda: self.encoder.text(batch.captions))

    def similarity(self, batch: Batch) -> torch.Tensor:
        """Cosine of each image and its own caption, float32 [N]."""
        own: torch.Tensor = (self.image(batch) * self.text(batch)).sum(-1)
        return own
