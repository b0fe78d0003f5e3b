"""Input pictures: bytes that a job's rows name → tensors of the size to render, for image-to-image and inpainting.

The bytes are a stranger's; `pictures` opens them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from renderfarm.errors import PictureError, RenderFailed
from renderfarm.pictures import decode
from renderfarm.schema import PlannedImage

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def read_inputs(image: PlannedImage, inputs: Mapping[str, bytes]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Returns the init image (3, H, W) and the mask (1, H, W) of one planned image, float32 in 0..1, None where it has
    none.

    `inputs`: SHA-256 hex → file bytes. White in the mask is drawn anew, black stays. Pictures of another shape are
    scaled to cover the size and cropped at the centre. Raises RenderFailed: bytes missing, unreadable, mask of another
    size, mask without image.
    """
    if image.init_digest is None:
        if image.mask_digest is not None:
            raise RenderFailed("a mask_image needs an init_image to be inpainted")
        return None, None
    init = _open(image.init_digest, image.init_image, inputs)
    mask = None
    if image.mask_digest is not None:
        mask = _open(image.mask_digest, image.mask_image, inputs).convert("L")
        if mask.size != init.size:
            raise RenderFailed(f"mask_image is {mask.width}×{mask.height}, init_image is {init.width}×{init.height}: make them equal")
    size = (image.width, image.height)
    return _tensor(init, size), None if mask is None else _tensor(mask, size)


def as_picture(levels: torch.Tensor) -> Picture:
    """The picture (3, H, W), float32 in 0..1, as PIL has it."""
    from PIL import Image

    return Image.fromarray((levels.cpu().numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0))


def read_control(image: PlannedImage, inputs: Mapping[str, bytes]) -> torch.Tensor | None:
    """Returns the control image (3, H, W), float32 in 0..1, of one planned image; None where it has none. As `read_inputs`."""
    if image.control_digest is None:
        return None
    return _tensor(_open(image.control_digest, image.control_image, inputs), (image.width, image.height))


def _open(digest: str, name: str | None, inputs: Mapping[str, bytes]) -> Picture:
    """Returns the picture, RGB, upright. Raises RenderFailed when there are no bytes or they are no picture."""
    from PIL import Image

    where = f"input picture {name}"
    if digest not in inputs:
        raise RenderFailed(f"{where}: its bytes are missing")
    try:
        return Image.fromarray(decode(inputs[digest], where))
    except PictureError as error:
        raise RenderFailed(f"{where}: {error.what}") from error


def _tensor(picture: Picture, size: tuple[int, int]) -> torch.Tensor:
    """Returns the picture scaled to cover `size` (width, height), centre-cropped, as float32 (C, H, W) in 0..1."""
    from PIL import Image, ImageOps

    if picture.size != size:
        picture = ImageOps.fit(picture, size, method=Image.Resampling.LANCZOS)
    levels = np.atleast_3d(np.asarray(picture, dtype=np.float32)) / 255
    return torch.from_numpy(levels.transpose(2, 0, 1).copy())
