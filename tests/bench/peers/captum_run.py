"""captum's TracInCP: the influence of training samples on failures, over checkpoints of a training.

    python tests/bench/peers/captum_run.py GIVEN.pt FOUND.npz

GIVEN has `training` and `failures` (name -> pixels uint8 [N, S, S, 3], classes [N]), the model's name, its number of
classes, and the files of its checkpoints. FOUND gets the mean influence of each training sample on each set, [N]. The
learning rates are taken as 1. captum's gradients of single samples cover linear and convolution layers whose modules
are called, so the attention's projections, which PyTorch reads from inside another module, are left out.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from captum.influence import TracInCP
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from curation.models.architecture import preprocess_for
from curation.models.classifier import classifier_for_inference
from curation.models.towers import PixelNormaliser
from curation.models.weights import read_tensors

BATCH = 128

torch.set_num_threads(1)
given, found = torch.load(sys.argv[1], weights_only=True), sys.argv[2]
normalise = PixelNormaliser(preprocess_for(given["model"]))
module = classifier_for_inference(given["model"], given["classes"]).eval()


def load(model: nn.Module, path: str) -> float:
    """Load a checkpoint; returns its learning rate."""
    model.load_state_dict(read_tensors(path))
    return 1.0


def batches(pixels: torch.Tensor, targets: torch.Tensor) -> DataLoader:
    """Return the samples in their order."""
    return DataLoader(TensorDataset(normalise(pixels), targets), batch_size=BATCH)


layers = [name for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
layers = [name for name in layers if ".attn." not in name]
tracin = TracInCP(
    module, batches(*given["training"]), given["checkpoints"], load, layers=layers,
    loss_fn=nn.CrossEntropyLoss(reduction="sum"), sample_wise_grads_per_batch=True,
)  # fmt: skip
sets = {name: (normalise(pixels), targets) for name, (pixels, targets) in given["failures"].items()}
everything = tuple(torch.cat(column) for column in zip(*sets.values(), strict=True))
rows = torch.split(tracin.influence(everything), [len(targets) for _, targets in sets.values()])  # one pass of training
np.savez(found, **{name: some.mean(0).numpy() for name, some in zip(sets, rows, strict=True)})
