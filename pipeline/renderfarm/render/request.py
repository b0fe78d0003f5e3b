"""What the images of one batch share, and the pictures that they start from and are guided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from renderfarm.models import LoadedModel, Task
from renderfarm.render.inputs import read_control, read_inputs
from renderfarm.schema import PlannedImage


@dataclass(frozen=True, slots=True)
class Request:
    """What the images of one batch share. Size in pixels; `strength`: how far from the init image, 0..1."""

    width: int
    height: int
    steps: int
    guidance: float
    adapter: str | None = None
    task: Task = "text"
    strength: float = 1.0
    controlled: bool = False
    chunks: int = 1
    """In which every prompt of the batch is encoded."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a batch starts from and is guided by, float32 in 0..1: init images (B, 3, H, W), masks (B, 1, H, W) where white is drawn
    anew, control images (B, 3, H, W)."""

    init: torch.Tensor | None
    mask: torch.Tensor | None
    control: torch.Tensor | None = None

    def of(self, at: int) -> Pictures:
        """Those of one image of the batch."""
        return Pictures(*(None if kind is None else kind[at : at + 1] for kind in (self.init, self.mask, self.control)))


def stack_pictures(images: Sequence[PlannedImage], inputs: Mapping[str, bytes]) -> Pictures:
    """Returns the pictures that a batch's images name. Raises RenderFailed for one that cannot be read."""
    read = [(*read_inputs(image, inputs), read_control(image, inputs)) for image in images]
    inits, masks, controls = ([picture for picture in kind if picture is not None] for kind in zip(*read, strict=True))
    return Pictures(*(torch.stack(kind) if kind else None for kind in (inits, masks, controls)))


def blank(model: LoadedModel, request: Request, count: int) -> tuple[Request, Pictures | None]:
    """The request, and pictures for it where these weights draw only inside masks: grey ones, drawn anew as a whole."""
    if model.family.text:
        return request, None
    grey = torch.full((count, 3, request.height, request.width), 0.5)
    return replace(request, task="inpaint"), Pictures(grey, torch.ones_like(grey[:, :1]))
