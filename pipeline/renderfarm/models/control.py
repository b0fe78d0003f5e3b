"""ControlNet (Zhang et al. 2023, arXiv 2302.05543): a picture of edges, depth or poses says where things are, words say what they are.

A job has at most one, beside its weights; rows with a `control_image` are drawn with it, the others as if it were not there. Whether it
fits the weights is told from the configs alone, before anything renders. Its digest is its own, so that naming one changes no other image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError, first_line
from renderfarm.job.model import ControlSettings
from renderfarm.models import hub
from renderfarm.models.families import Family
from renderfarm.models.layout import part_files, read_json
from renderfarm.models.licence import read_licence
from renderfarm.weights.fingerprint import combined, fingerprint
from renderfarm.weights.headers import check_safetensors

WHERE = "model.controlnet"
COMPONENT = "controlnet"
"""Its name among the components whose sizes `Resolved.parameters` tells."""

WANTED = ["config.json", "README.md", "*.safetensors", "*.safetensors.index.json"]

EQUAL = ("cross_attention_dim", "block_out_channels", "down_block_types", "addition_embed_type")
"""Fields that say the same of a UNet and of the ControlNet that was copied from it (`ControlNetModel.from_unet`)."""


FLUX_EQUAL = ("in_channels", "num_attention_heads", "attention_head_dim", "joint_attention_dim", "pooled_projection_dim", "axes_dims_rope")


@dataclass(frozen=True, slots=True)
class ResolvedControl:
    """One ControlNet that may be loaded: `digest` over `files` in the folder `path`, as `fingerprint.combined` defines it.

    `weights`: as the job names it; `parameters`: number of weights; `scale`: how much it counts; `mode`: of one that unites several.
    """

    weights: str
    revision: str
    path: str
    digest: str
    files: tuple[str, ...]
    variant: str | None
    parameters: int
    scale: float
    mode: int | None = None

    @property
    def identity(self) -> str:
        """What an image that is drawn with it owes to it."""
        return f"{self.digest} at {self.scale}" + ("" if self.mode is None else f" mode {self.mode}")


def resolve_control(settings: ControlSettings, family: Family, folder: Path, *, accept_licence: bool) -> ResolvedControl:
    """Returns the ControlNet with its digest. `folder`: of the weights that it is for.

    Raises WeightsError: missing, damaged, a pickle, code, no ControlNet, made for other weights, a licence that was not accepted.
    """
    if not family.control:
        raise WeightsError(
            f"ControlNet is not built for this family ({family.name})", WHERE, "use Stable Diffusion 1/2, SDXL or FLUX.1 weights"
        )
    place = locate_control(settings)
    config = read_json(place / "config.json")
    problem = misfit(config, read_json(folder / family.denoiser / "config.json"), family, settings.mode)
    if problem:
        raise WeightsError(problem, str(place), "use a ControlNet that was trained on these weights' family")
    licence = read_licence(place)
    if licence.use == "non-commercial" and not accept_licence:
        what = f"the licence {licence.name!r} ({licence.source}) forbids commercial use"
        raise WeightsError(what, settings.weights, "if you have the right to use it, set model.accept_licence: true")
    variant, weights = part_files(place)
    parameters = sum(check_safetensors(place / name) for name in weights)
    files = ("config.json", *weights)
    digest = combined(fingerprint(place, files, cache=cache_folder()))
    own = (settings.weights, settings.revision or "", str(place))
    return ResolvedControl(*own, digest, files, variant, parameters, settings.scale, settings.mode)


def locate_control(settings: ControlSettings) -> Path:
    """Returns the local folder; a Hub id is downloaded if it is not cached. Raises WeightsError."""
    path = Path(settings.weights).expanduser()
    if path.is_dir():
        return path.resolve()
    if not hub.HUB_ID.fullmatch(settings.weights) or path.suffix == ".safetensors":
        raise WeightsError(
            "there is no such folder", settings.weights, f"set {WHERE}.weights to a local folder with a config.json, or a Hub id"
        )
    if settings.revision is None:
        what = "there is no such folder, and as a Hub id it has no pinned revision"
        raise WeightsError(what, settings.weights, f"set {WHERE}.revision to the full commit hash that the Hub shows")
    return hub.fetch(settings.weights, settings.revision, WANTED)


def misfit(config: dict[str, Any], unet: dict[str, Any], family: Family, mode: int | None = None) -> str:
    """Returns why a ControlNet with this config does not fit a denoiser with that one; empty if it does."""
    kind, flux = config.get("_class_name"), family.name == "flux"
    if kind != (usable := "FluxControlNetModel" if flux else "ControlNetModel"):
        return f"this is a {kind}, and only a {usable} can be used with these weights"
    if (modes := config.get("num_mode") if flux else None) is not None and (mode is None or mode >= modes):
        return f"this ControlNet unites {modes} kinds of pictures: set {WHERE}.mode to the number of one, as its model card has it"
    if modes is None and mode is not None:
        return f"this ControlNet reads one kind of picture: remove {WHERE}.mode"
    for field in FLUX_EQUAL if flux else EQUAL:
        own, wanted = config.get(field), unet.get(field)
        if own is not None and wanted is not None and own != wanted:
            return f"the ControlNet has {field} {own}, the weights have {wanted}"
    if flux:
        return ""
    if (config.get("addition_embed_type") is None) != (unet.get("addition_embed_type") is None):
        return "the ControlNet and the weights differ in addition_embed_type: one is for SDXL, the other is not"
    own, wanted = config.get("in_channels", 4), unet.get("out_channels", 4)
    return "" if own == wanted else f"the ControlNet reads latents of {own} channels, the weights have {wanted}"


def load_control(resolved: ResolvedControl, dtype: Any, device: Any) -> Any:
    """Returns the ControlNet on the device, every byte hashed. Raises WeightsError: changed, or cannot be loaded."""
    import diffusers

    folder = Path(resolved.path)
    if not folder.is_dir():  # another machine than the one that resolved
        folder = locate_control(ControlSettings(weights=resolved.weights, revision=resolved.revision or None))
    try:
        digest = combined(fingerprint(folder, resolved.files, cache=None))
        if digest != resolved.digest:
            what = f"the ControlNet's files have the digest {digest[:12]}…, the job was resolved with {resolved.digest[:12]}…"
            raise WeightsError(what, str(folder), "restore the files, or start the job again to resolve the new ones")
        kind: Any = getattr(diffusers, str(read_json(folder / "config.json")["_class_name"]))
        model = kind.from_pretrained(str(folder), torch_dtype=dtype, variant=resolved.variant, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, json.JSONDecodeError) as error:
        reason = first_line(error)
        raise WeightsError(f"the ControlNet cannot be loaded: {reason}", str(folder), "download the folder again") from error
    return model.eval().to(device)
