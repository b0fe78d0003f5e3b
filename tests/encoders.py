"""Folders of weights that give features, tiny and random: a CLIP, a SigLIP and a DINOv2 that know nothing and load as the real ones do."""

from __future__ import annotations

import json
from pathlib import Path

LETTERS = [chr(code) for code in range(33, 127)]


def clip(folder: Path, size: int = 16, seed: int = 3) -> Path:
    """A CLIP with features of this size."""
    import torch
    import transformers as t

    torch.manual_seed(seed)
    vocabulary = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    common = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1, "pad_token_id": len(vocabulary) - 1}
    text = {**common, **ends, "vocab_size": len(vocabulary), "max_position_embeddings": 77}
    vision = {**common, "image_size": 32, "patch_size": 16}
    model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=size))
    for weight in model.parameters():  # as it is made anew, every picture has nearly the same features
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: at for at, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    t.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77).save_pretrained(folder)
    t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def dino(folder: Path, size: int = 12) -> Path:
    """A DINOv2, which knows no words."""
    import torch
    import transformers as t

    torch.manual_seed(5)
    config = t.Dinov2Config(hidden_size=size, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=28, patch_size=14)
    t.Dinov2Model(config).save_pretrained(folder)
    crop = {"height": 28, "width": 28}
    t.BitImageProcessor(size={"shortest_edge": 28}, crop_size=crop).save_pretrained(folder)
    return folder
