"""Architectures by name: configuration, preprocessing and cost, without loading any weights.

Names and configurations are read from JSON files (1 ms). For a model of open_clip, `preprocess_for` reads open_clip's
registry of pretrained tags, which imports torch (2 s, once a process). `cost` builds the model on the meta device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.core.errors import UnknownNameError, UserError

if TYPE_CHECKING:
    from torch import nn

    from curation.shards.images import Preprocess

MODELS = {
    "proxy-mu": "2 layers, 64 wide: a learner for demos and tests; the cheapest scorer",
    "proxy-ti": "4 layers, 128 wide: the default scorer; trains in one to two minutes on two CPU cores",
    "proxy-s": "6 layers, 256 wide: a reference model; trains in tens of minutes on a CPU, in two on a GPU",
}

# Fields of a configuration that `plain_clip` builds; a model with others needs open_clip.
PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_bias", "init_logit_scale"}
PLAIN_VISION = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
PLAIN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class Cost(NamedTuple):
    """Cost of a model: its parameters, and the FLOPs of one forward pass of each tower for one sample.

    A multiply-add counts as 2 FLOPs. FLOPs are nominal, of all tokens in all blocks; `plain_clip` skips some.
    """

    parameters: int
    image_flops: int
    text_flops: int


def config_path(model: str) -> Path:
    """Path of the JSON file with the configuration of `model`.

    Raises `UnknownNameError`, which suggests the nearest name, for a model that neither we nor open_clip define.
    """
    path = _config_files().get(model)
    if path is None:
        raise _unknown_model(model)
    return path


def model_config(model: str) -> dict[str, Any]:
    """Configuration of `model` in open_clip's format. Raises `UnknownNameError` for an unknown model."""
    config: dict[str, Any] = json.loads(config_path(model).read_text(encoding="utf-8"))
    return config


def model_names() -> list[str]:
    """Names of all models: our proxies first, then open_clip's in alphabetical order."""
    return [*MODELS, *sorted(name for name in _config_files() if name not in MODELS)]


def image_size(model: str) -> int:
    """Side of the square input image of `model`, in pixels.

    Raises `UnknownNameError` for an unknown model and for one whose input is not square.
    """
    size = model_config(model)["vision_cfg"].get("image_size", 224)
    if isinstance(size, int):
        return size
    if size[0] != size[1]:
        text = f"model {model!r} takes images of {size[0]}x{size[1]} pixels; only square input is supported"
        raise UnknownNameError(text)
    return int(size[0])


def preprocess_for(model: str) -> Preprocess:
    """Preprocessing that `model` expects: size, mean, std and resize mode.

    For a model of open_clip, each setting is the value on which all its pretrained tags agree. Where they disagree, or
    there are none, and for our proxies, the setting is open_clip's default: OpenAI's mean and std, the shortest side
    resized, then a centre crop. Raises `UnknownNameError` for an unknown model.
    """
    from curation.shards.images import Preprocess

    size = image_size(model)
    mean, std, mode = OPENAI_MEAN, OPENAI_STD, "shortest"
    if model not in MODELS:
        agreed = _agreed_preprocess(model)
        mean = agreed.get("mean", mean)
        std = agreed.get("std", std)
        mode = agreed.get("resize_mode", mode)
    return Preprocess(size=size, mean=mean, std=std, mode="squash" if mode == "squash" else "shortest")


def build_model(model: str, size: int = 0) -> nn.Module:
    """Build `model` with random float32 weights on torch's current default device. No weights are downloaded.

    A plain CLIP is ours (`plain_clip`), with the weights that open_clip draws from the same seed; others are
    open_clip's.
    `size`: side of the input images in pixels; 0 means the model's own. Raises `UnknownNameError` for an unknown model,
    `UserError` when the configuration of its text tower is not available from the Hugging Face hub.
    """
    return _build(model, size, initialise=True)


def build_for_inference(model: str) -> nn.Module:
    """Build `model` with uninitialised weights, for a state dict to replace. Raises as `build_model` does.

    Of a plain CLIP alone; models of open_clip draw their weights.
    """
    return _build(model)


def build_for_counting(model: str, size: int = 0) -> nn.Module:
    """Build `model` on torch's meta device, with all the operations of its architecture, to count its FLOPs."""
    import torch

    with torch.device("meta"):
        return _build(model, size, whole=True).to("meta").eval()


def _build(model: str, size: int = 0, **options: bool) -> nn.Module:
    """options: of `PlainClip`."""
    config = model_config(model)
    if size:
        config["vision_cfg"]["image_size"] = size
    if is_plain(config):
        from curation.models.plain_clip import PlainClip

        return PlainClip(config, **options)
    import open_clip
    import torch

    with hub_errors(model, "its text tower's configuration"):
        return open_clip.create_model(  # type: ignore[no-any-return]
            model, device=torch.get_default_device(), pretrained_text=False, force_image_size=size or None
        )


def encoder_imports(model: str) -> tuple[str, ...]:
    """Modules that a process needs to score with `model` and that take long to import."""
    plain = is_plain(model_config(model))
    return ("curation.models.shared_encoder", "curation.models.bounded_tokenizer" if plain else "open_clip")


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether `plain_clip` builds a model with this configuration (open_clip's format)."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    known = config.keys() <= PLAIN and vision.keys() <= PLAIN_VISION and text.keys() <= PLAIN_TEXT
    return known and all(isinstance(vision.get(name, 0), int) for name in ("layers", "image_size", "patch_size"))


@cache
def cost(model: str, size: int = 0) -> Cost:
    """Count the parameters and FLOPs of `model` with torch, for captions of the full context length.

    Captions that are trimmed (see `dual.trim`) cost less. `size`: side of the input images in pixels; 0 means the
    model's own.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module: Any = build_for_counting(model, size)
    with torch.device("meta"):
        size = size or image_size(model)
        image = torch.zeros(1, 3, size, size)
        text = torch.zeros(1, model_config(model)["text_cfg"].get("context_length", 77), dtype=torch.long)
    flops = []
    for encode, inputs in ((module.encode_image, image), (module.encode_text, text)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            encode(inputs)
        flops.append(counter.get_total_flops())
    return Cost(sum(parameter.numel() for parameter in module.parameters()), *flops)


@cache
def _config_files() -> dict[str, Path]:
    folder = Path(__file__).parent / "configs"
    files = {name: folder / f"{name}.json" for name in MODELS}
    spec = find_spec("open_clip")  # locates the package without importing it, and so without importing torch
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root, "model_configs").glob("*.json")):
            files.setdefault(path.stem, path)
    return files


def _unknown_model(model: str) -> UnknownNameError:
    by_folded = {name.lower(): name for name in _config_files()}
    near = get_close_matches(model.lower().replace("/", "-"), by_folded, n=1, cutoff=0.5)
    hint = f"did you mean {by_folded[near[0]]!r}? " if near else ""
    return UnknownNameError(f"unknown model {model!r}", fix=f"{hint}`curate proxy ls --all` lists every name")


def _agreed_preprocess(model: str) -> dict[str, Any]:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    found: dict[str, set[Any]] = {}
    for tag in list_pretrained_tags_by_model(model):
        entry = get_pretrained_cfg(model, tag)
        defaults = {"mean": OPENAI_MEAN, "std": OPENAI_STD, "resize_mode": "shortest"}
        for key, default in defaults.items():
            value = entry.get(key) or default
            found.setdefault(key, set()).add(tuple(value) if isinstance(value, list) else value)
    return {key: values.pop() for key, values in found.items() if len(values) == 1}


@contextmanager
def hub_errors(model: str, what: str) -> Iterator[None]:
    """Convert every failure of the Hugging Face hub (not installed, offline, not found) to a one-line `UserError`.

    `what`: what the model needs from the hub, for the message.
    """
    try:
        yield
    except ImportError as error:
        fix = "pip install transformers"
        raise UserError(f"model {model!r} needs {what}, which needs a missing package: {error}", fix=fix) from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = "load the model once on a machine with access and copy its HF_HOME, or use a model with CLIP's vocabulary"
        raise UserError(f"model {model!r} can't load {what} from the Hugging Face hub: {line}", fix=fix) from error
