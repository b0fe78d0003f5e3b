"""Pictures and words → features, by weights on disk: what distances, scores and consistency are computed from.

CLIP (Radford et al., 2021) and SigLIP (Zhai et al., 2023) put pictures and words into one space; DINOv2 and other image encoders that
transformers reads know pictures alone. Safetensors only, local files only, no code from the weights; their digest says which they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError, first_line
from renderfarm.models.vision import Image, config_of, loaded
from renderfarm.weights.fingerprint import combined, fingerprint
from renderfarm.weights.headers import PICKLES, check_safetensors, pickle_error

WITH_WORDS = ("clip", "siglip")
PICTURES_ALONE = (
    "dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "clip_vision_model", "siglip_vision_model", "convnext", "convnextv2", "resnet",
    "timm_wrapper",
)  # fmt: skip
READ = (".json", ".txt", ".model", ".safetensors")
"""The endings of files that loading may read: all of them are in the digest."""
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")
BATCH = 16
Vectors = npt.NDArray[np.float32]
"""float32 (N, size)."""


class FeatureNet:
    """An image encoder, with its text encoder where there is one."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """`device`: as torch names it, or `auto`. Raises WeightsError: no such folder, a pickle, another kind of network, damaged."""
        folder = folder.expanduser()
        self.kind = str(config_of(folder).get("model_type"))
        if self.kind not in WITH_WORDS + PICTURES_ALONE:
            known = ", ".join(WITH_WORDS + PICTURES_ALONE)
            raise WeightsError(f"{self.kind!r} gives no features that are known", str(folder), f"use one of {known}")
        self.digest = _digest_of(folder)
        import torch
        import transformers

        self.words = self.kind in WITH_WORDS
        self._device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        model, about = loaded(transformers.AutoModel, folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True)
        if lacking := sorted(about["missing_keys"]) or sorted(map(str, about["mismatched_keys"])):  # the library would draw them at random
            raise WeightsError(f"{len(lacking)} tensors are missing, such as {lacking[0]}", str(folder), "download it again, whole")
        if self.words and not any((folder / name).is_file() for name in TOKENIZERS):  # the library would make one that knows no word
            raise WeightsError("there is no tokenizer", str(folder), f"a complete folder, with {' or '.join(TOKENIZERS)}")
        self._model: Any = model.eval().to(self._device)
        self._images: Any = loaded(transformers.AutoImageProcessor, folder, trust_remote_code=False)
        self._tokens: Any = loaded(transformers.AutoTokenizer, folder, trust_remote_code=False) if self.words else None
        self.tokens_max = int(self._model.config.text_config.max_position_embeddings) if self.words else 0
        try:
            self.size = self.pictures([np.zeros((32, 32, 3), np.uint8)]).shape[1]
            if self.words and self.texts(["a"]).shape[1] != self.size:
                raise ValueError("pictures and words have features of different sizes")
        except (ValueError, RuntimeError, KeyError, IndexError, AttributeError, TypeError) as error:
            what = f"the weights give no features: {first_line(error)[:200]}"
            raise WeightsError(what, str(folder), "a complete folder, with its preprocessor and tokenizer") from error

    def pictures(self, images: Sequence[Image]) -> Vectors:
        """Features of uint8 (H, W, 3) sRGB each, as the network gives them: float32 (N, size), not of unit length."""
        import torch

        with torch.inference_mode():
            pixels = self._images(images=[np.ascontiguousarray(image) for image in images], return_tensors="pt")["pixel_values"]
            pixels = pixels.to(self._device)
            seen = self._model.get_image_features(pixel_values=pixels) if self.words else self._model(pixel_values=pixels)
        return self._vectors(seen)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Features of texts, float32 (N, size). What is longer than `tokens_max` is cut: `cut` says which."""
        import torch

        assert self.words
        padding: Any = "max_length" if self.kind == "siglip" else True  # SigLIP was trained on padded texts only
        with torch.inference_mode():
            tokens = self._tokens(list(texts), padding=padding, truncation=True, max_length=self.tokens_max, return_tensors="pt")
            inputs = {name: tokens[name].to(self._device) for name in ("input_ids", "attention_mask") if name in tokens}
            if self.kind == "siglip":
                inputs.pop("attention_mask", None)  # and looks at the padding, too
            said = self._model.get_text_features(**inputs)
        return self._vectors(said)

    def cut(self, text: str) -> bool:
        """Whether a text has more tokens than the network reads."""
        return len(self._tokens(text, verbose=False)["input_ids"]) > self.tokens_max

    @staticmethod
    def _vectors(output: Any) -> Vectors:
        pooled = output if hasattr(output, "shape") else output.pooler_output
        pooled = output.last_hidden_state[:, 0] if pooled is None else pooled
        vectors: Vectors = pooled.flatten(1).float().cpu().numpy()
        return vectors


def cosine(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    """The cosine of each pair of rows, float64 (N,)."""
    products: npt.NDArray[np.float64] = (unit(a) * unit(b)).sum(axis=1)
    return products


def unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Rows of length 1."""
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    units: npt.NDArray[np.float64] = wide / np.where(length > 0, length, 1.0)
    return units


def _digest_of(folder: Path) -> str:
    """Of all that loading may read. Raises WeightsError for a pickle and nothing beside it, or damaged safetensors."""
    names = [path.name for path in folder.iterdir() if path.is_file() and path.suffix in READ]
    safe = [name for name in names if name.endswith(".safetensors")]
    if not safe:
        for path in sorted(folder.iterdir()):
            if path.suffix in PICKLES:
                raise pickle_error(path)
        raise WeightsError("no weights: there is no .safetensors file", str(folder), "a complete folder with model.safetensors")
    for name in safe:
        check_safetensors(folder / name)
    return combined(fingerprint(folder, names, cache=cache_folder()))
