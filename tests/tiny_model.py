"""A CLIP smaller than every proxy, for runs in this process: most of their time goes into checkpoints.

CLIP's vocabulary makes 3.2 of proxy-mu's 3.4 million parameters; this model has 0.2 million in all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.models import architecture

TINY = "proxy-tiny"
WIDTH = 16  # of the space that both towers share
CONFIG = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 4, "heads": 1, "layers": 1},
}


@contextmanager
def tiny_model(folder: Path) -> Iterator[str]:
    """Add the model `TINY` to those that this process knows by name."""
    path = folder / f"{TINY}.json"
    path.write_text(json.dumps(CONFIG))
    files = architecture._config_files()
    files[TINY], architecture.MODELS[TINY] = path, "a model of the tests"
    try:
        yield TINY
    finally:
        del files[TINY], architecture.MODELS[TINY]
