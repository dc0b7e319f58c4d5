"""An open_clip model as a folder that `transformers` loads: for Data-Juicer, whose operator takes nothing else.

The vectors are the same to float32's last bits. The scale of the logits is 100, by which Data-Juicer divides.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

NORMS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}
LINEAR = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def convert(config: dict[str, Any], weights: Path, folder: Path) -> Path:
    """Write the model into `folder` unless it is there. config: open_clip's, of a plain CLIP with GELU."""
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(load_file(weights)), folder / "model.safetensors", {"format": "pt"})
    vision, text = config["vision_cfg"], config["text_cfg"]
    context = text.get("context_length", 77)
    size = vision.get("image_size", 224)
    _tokenizer(folder, context)
    image = {
        "image_processor_type": "CLIPImageProcessor", "crop_size": {"height": size, "width": size},
        "size": {"shortest_edge": size}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": MEAN, "image_std": STD, "resample": 3,
        "rescale_factor": 1 / 255, "processor_class": "CLIPProcessor",
    }  # fmt: skip
    _write(folder / "preprocessor_config.json", image)
    towers = {
        "vision_config": _tower(vision["width"], vision["layers"], vision["width"] // vision.get("head_width", 64),
                                image_size=size, patch_size=vision["patch_size"]),
        "text_config": _tower(text["width"], text["layers"], text["heads"], vocab_size=text.get("vocab_size", 49408),
                              max_position_embeddings=context, eos_token_id=49407, bos_token_id=49406,
                              pad_token_id=49407),
    }  # fmt: skip
    _write(folder / "config.json", {"architectures": ["CLIPModel"], "model_type": "clip",
                                    "projection_dim": config["embed_dim"], **towers})  # fmt: skip
    return folder


def tensors(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of open_clip's CLIP under the names of transformers' CLIPModel."""
    out = {
        "logit_scale": torch.tensor(math.log(100)),
        "text_projection.weight": source["text_projection"].T.contiguous(),
        "visual_projection.weight": source["visual.proj"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": source["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": source["positional_embedding"],
        "vision_model.embeddings.class_embedding": source["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": source["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": source["visual.positional_embedding"],
    }
    for kind in ("weight", "bias"):
        out[f"text_model.final_layer_norm.{kind}"] = source[f"ln_final.{kind}"]
        out[f"vision_model.pre_layrnorm.{kind}"] = source[f"visual.ln_pre.{kind}"]  # the name is transformers' own
        out[f"vision_model.post_layernorm.{kind}"] = source[f"visual.ln_post.{kind}"]
        for name, tensor in source.items():
            for tower, prefix in (("visual.", "vision_model"), ("", "text_model")):
                start = f"{tower}transformer.resblocks."
                if name.startswith(start) and name.endswith(kind):
                    layer, _, part = name.removeprefix(start).partition(".")
                    out |= _block(f"{prefix}.encoder.layers.{layer}", part, kind, tensor)
    return {name: tensor.clone() for name, tensor in out.items()}


def _block(prefix: str, part: str, kind: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    if part.startswith("attn.in_proj"):
        pieces = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{prefix}.self_attn.{name}_proj.{kind}": piece for name, piece in pieces}
    module = part.rpartition(".")[0]
    return {f"{prefix}.{NORMS.get(module) or LINEAR[module]}.{kind}": tensor}


def _tower(width: int, layers: int, heads: int, **others: Any) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, "hidden_act": "gelu",
            "num_attention_heads": heads, "layer_norm_eps": 1e-5, **others}  # fmt: skip


def _tokenizer(folder: Path, context: int) -> None:
    """CLIP's vocabulary and merges, as open_clip ships them."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer, start, end = SimpleTokenizer(), "<|startoftext|>", "<|endoftext|>"
    names = {"<start_of_text>": start, "<end_of_text>": end}  # open_clip's own spelling
    _write(folder / "vocab.json", {names.get(token, token): number for token, number in tokenizer.encoder.items()})
    merges = sorted(tokenizer.bpe_ranks, key=lambda pair: int(tokenizer.bpe_ranks[pair]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    marks = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    vocabulary = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context, "do_lower_case": True, **marks}
    _write(folder / "tokenizer_config.json", vocabulary)


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))
