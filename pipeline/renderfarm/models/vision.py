"""Networks that look at finished pictures, from a folder on disk: open-vocabulary detectors and classifiers of unsafe content.

They are here because only `models` and `render` import transformers; the checks that ask them are in `checks`. Safetensors only, local
files only, no code from the weights, one CPU thread. What architectures do:

- Grounding DINO (Liu et al., 2023) and OWLv2 (Minderer et al., 2023) find what a few words name;
- the safety checker of Stable Diffusion compares CLIP's embedding with 17 hidden concepts; any image classifier with a label like "nsfw".
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from renderfarm.errors import WeightsError
from renderfarm.models.quiet import quieten

Image = npt.NDArray[np.uint8]
DETECTORS = ("grounding-dino", "owlv2", "owlvit")
SAME_IOU = 0.6
"""Two boxes of one class that share more than this are one thing: a query answered twice."""
UNSAFE_LABELS = ("nsfw", "unsafe", "porn", "hentai", "sexy", "gore", "violence", "explicit")
MARGIN_SCALE = 40.0
"""The safety checker flags a cosine over its border by .00; the logistic curve over margin x 40 gives .27 at .025 below and .73 above."""


class Detection(NamedTuple):
    """One thing found: its box in pixels, and the detector's confidence 0..1."""

    box: tuple[float, float, float, float]
    confidence: float


class Detector:
    """Finds what words name. About 700 MB for Grounding DINO tiny, and seconds an image on one CPU thread."""

    def __init__(self, folder: Path) -> None:
        """Raises WeightsError when the folder holds no such detector."""
        kind = config_of(folder).get("model_type")
        if kind not in DETECTORS:
            raise WeightsError(f"{kind!r} is no open-vocabulary detector that is known", str(folder), f"use one of {', '.join(DETECTORS)}")
        import transformers

        self.dino = kind == "grounding-dino"
        self._processor = loaded(transformers.AutoProcessor, folder)
        self._model = loaded(transformers.AutoModelForZeroShotObjectDetection, folder, use_safetensors=True).eval()

    def find(self, image: Image, name: str, confidence_min: float) -> list[Detection]:
        """Every thing of a class in uint8 (H, W, 3) sRGB, surest first."""
        import torch

        torch.set_num_threads(1)
        words: Any = f"a {name.strip().lower()}." if self.dino else [[f"a photo of a {name.strip().lower()}"]]
        with torch.inference_mode():
            inputs = self._processor(images=image, text=words, return_tensors="pt")
            outputs = self._model(**inputs)
            options = {"threshold": confidence_min, "target_sizes": [image.shape[:2]]}
            if self.dino:
                options |= {"input_ids": inputs["input_ids"], "text_threshold": confidence_min}
            (output,) = self._processor.post_process_grounded_object_detection(outputs, **options)
        boxes, scores = output["boxes"].float().numpy(), output["scores"].float().numpy()
        things = [Detection((float(a), float(b), float(c), float(d)), float(s)) for (a, b, c, d), s in zip(boxes, scores, strict=True)]
        things = [thing for thing in things if _centred(thing.box, image.shape[1], image.shape[0])]
        return distinct(sorted(things, key=lambda thing: -thing.confidence))


class Safety:
    """Says how likely a picture is unsafe."""

    def __init__(self, folder: Path) -> None:
        """Raises WeightsError when the folder holds no classifier of unsafe content."""
        import transformers

        config = config_of(folder)
        (architecture,) = config.get("architectures") or ("none",)
        self._checker = architecture == "StableDiffusionSafetyChecker"
        labels = {int(at): str(label) for at, label in (config.get("id2label") or {}).items()}
        self._unsafe = [at for at, label in labels.items() if any(word in label.casefold() for word in UNSAFE_LABELS)]
        if self._checker:
            from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

            self._model: Any = loaded(StableDiffusionSafetyChecker, folder, use_safetensors=True).eval()
            self._processor: Any = transformers.CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
        elif architecture.endswith("ForImageClassification") and self._unsafe:
            self._model = loaded(transformers.AutoModelForImageClassification, folder, use_safetensors=True).eval()
            self._processor = loaded(transformers.AutoImageProcessor, folder)
        else:
            raise WeightsError(
                f"{architecture} with labels {', '.join(labels.values()) or 'none'} does not tell unsafe pictures",
                str(folder),
                "use Stable Diffusion's safety_checker folder, or an image classifier with a label such as nsfw",
            )

    def unsafe(self, image: Image) -> float:
        """0..1 for uint8 (H, W, 3) sRGB."""
        import torch

        torch.set_num_threads(1)
        with torch.inference_mode():
            pixels = self._processor(images=image, return_tensors="pt")["pixel_values"]
            if not self._checker:
                return float(self._model(pixels).logits.softmax(-1)[0, self._unsafe].sum())
            model = self._model
            embedding = model.visual_projection(model.vision_model(pixels)[1])
            likeness = torch.nn.functional.normalize(embedding) @ torch.nn.functional.normalize(model.concept_embeds).T
            margin = float((likeness[0] - model.concept_embeds_weights).max())
        return 1 / (1 + math.exp(-max(-20.0, min(20.0, margin * MARGIN_SCALE))))


def distinct(things: Sequence[Detection]) -> list[Detection]:
    """The surest of boxes that cover the same thing; `things`: surest first."""
    separate: list[Detection] = []
    for thing in things:
        if all(_iou(thing.box, other.box) <= SAME_IOU for other in separate):
            separate.append(thing)
    return separate


def _centred(box: Sequence[float], width: int, height: int) -> bool:
    """Whether a box has its middle in the picture, and not in the border that OWLv2 adds to make it square."""
    return 0 <= (box[0] + box[2]) / 2 <= width and 0 <= (box[1] + box[3]) / 2 <= height


def _iou(box: Sequence[float], other: Sequence[float]) -> float:
    width, height = (max(0.0, min(box[k + 2], other[k + 2]) - max(box[k], other[k])) for k in (0, 1))
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return width * height / max(areas - width * height, 1e-9)


def config_of(folder: Path) -> dict[str, Any]:
    """What a folder of weights says of itself. Raises WeightsError where it says nothing."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"no weights with a config.json: {error}", str(folder), "name a folder that holds them") from error
    if not isinstance(config, dict):
        raise WeightsError("config.json is no object", str(folder), "download it again")
    return config


def loaded(kind: Any, folder: Path, **options: Any) -> Any:
    """`from_pretrained` of local files. Raises WeightsError with what the library said."""
    quieten()
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"the weights cannot be loaded: {reason}", str(folder), "a complete folder with model.safetensors") from error
