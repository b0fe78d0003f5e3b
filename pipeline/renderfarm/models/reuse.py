"""DeepCache (Ma, Fang, Wang 2023, arXiv 2312.00858) for `UNet2DConditionModel`: between full steps only the outermost blocks run.

The features of a UNet's inner blocks change little from one step to the next. At every n-th step all blocks run, and what the last
but one up block gave is kept; between, the first down block and the last up block run with it. Lossy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class DeepFeatures:
    """Which step it is, and what the inner blocks gave at the last full one. `begin` starts an image batch."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.step = 0
        self.deep: dict[int, Any] = {}

    def begin(self) -> None:
        """Forget: the next step is a full one."""
        self.step = 0
        self.deep.clear()

    @property
    def full(self) -> bool:
        """Whether this step computes everything."""
        return self.step % self.every == 0 or not self.deep


def reuse_deep_features(unet: Any, every: int) -> None:
    """Makes `unet` compute its inner blocks at every `every`-th call only; `begin_batch` must be called before each batch."""
    features = DeepFeatures(every)
    for key, block in enumerate((*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks[:-1])):
        block.forward = _skipping(block.forward, key, features)
    unet.register_forward_hook(lambda *_: setattr(features, "step", features.step + 1))
    unet.deep_features = features


def begin_batch(denoiser: Any) -> None:
    """Says that the next call of the denoiser is the first step of other images."""
    features = getattr(denoiser, "deep_features", None)
    if features is not None:
        features.begin()


def _skipping(forward: Callable[..., Any], key: int, features: DeepFeatures) -> Callable[..., Any]:
    """Returns the block's forward, skipped between full steps."""

    def run(*args: Any, **options: Any) -> Any:
        if key not in features.deep or features.full:
            features.deep[key] = forward(*args, **options)
        return features.deep[key]

    return run
