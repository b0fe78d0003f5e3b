"""What a job changes of the weights' sampler and guidance: whether it can be had is said here, before anything renders, and what the
sampler's configuration becomes.

Names are the front ends', meanings diffusers' (its documentation, "Schedulers", has the table). A flag that a sampler does not know would
be left out by diffusers without a word, so each is looked up first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from renderfarm.errors import WeightsError
from renderfarm.job.model import ModelSettings
from renderfarm.models.families import SCHEDULERS, Family
from renderfarm.models.layout import read_json

SIGMAS: Mapping[str, tuple[str, object]] = {
    "karras": ("use_karras_sigmas", True),
    "exponential": ("use_exponential_sigmas", True),
    "beta": ("use_beta_sigmas", True),
    "sgm_uniform": ("timestep_spacing", "trailing"),
}
SPACED = frozenset(
    {"DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler"}
    | {"FlowMatchEulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler", "UniPCMultistepScheduler"}
)
"""Samplers that know Karras', exponential and beta noise levels."""
UNSPACED = frozenset({"DPMSolverSinglestepScheduler", "FlowMatchEulerDiscreteScheduler"})
"""Samplers without a `timestep_spacing`."""
ZERO_SNR = frozenset(
    {"DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler"}
    | {"LCMScheduler", "TCDScheduler", "UniPCMultistepScheduler"}
)
"""Samplers that know noise levels without signal (`rescale_betas_zero_snr`); others would leave that out without a word."""

RESCALED: Mapping[str, tuple[str, ...]] = {"sd": ("text",), "sdxl": ("text", "image", "inpaint")}
"""Family → the tasks whose pipeline of diffusers takes `guidance_rescale`; none of them with a ControlNet."""
CLIP_SKIPPED = ("sd", "lcm", "sdxl")
TRULY_GUIDED = ("flux", "flux_kontext")
"""Families with distilled guidance whose pipelines can be guided in truth as well."""


def refuse_sampling(settings: ModelSettings, family: Family, folder: Path, scheduler: str) -> None:
    """Raises WeightsError for what this family or this sampler would leave out. `scheduler`: its class; `folder`: the weights'."""
    flow, flow_sampler = family.prediction == "flow", scheduler.startswith("FlowMatch")
    name = settings.sigmas
    known = scheduler not in UNSPACED if name == "sgm_uniform" else scheduler in SPACED
    if name is not None and (not known or (flow and (not flow_sampler or name == "sgm_uniform"))):
        raise WeightsError(f"{scheduler} knows no {name} noise levels here", "model.sigmas", "use another sampler, or remove it")
    for field, value in (("prediction_type", settings.prediction_type), ("zero_snr", settings.zero_snr)):
        if value is not None and flow:
            raise WeightsError(f"this family ({family.name}) is drawn by a flow", f"model.{field}", "remove it")
    if settings.zero_snr and scheduler not in ZERO_SNR:
        raise WeightsError(f"{scheduler} does not know noise levels without signal", "model.zero_snr", "set model.scheduler: euler")
    if settings.shift is not None:
        config = folder / "scheduler" / "scheduler_config.json"
        if not flow:
            raise WeightsError(f"this family ({family.name}) is drawn by diffusion, and shifts nothing", "model.shift", "remove it")
        if config.is_file() and read_json(config).get("use_dynamic_shifting"):
            what = "these weights' noise levels shift with the picture's size (use_dynamic_shifting), and a fixed shift would be left out"
            raise WeightsError(what, "model.shift", "remove it")
    if settings.guidance_rescale and family.name not in RESCALED:
        what = f"diffusers does not rescale the guidance of this family ({family.name})"
        raise WeightsError(what, "model.guidance_rescale", "remove it")
    if settings.clip_skip is not None and family.name not in CLIP_SKIPPED:
        raise WeightsError(f"prompts of this family ({family.name}) are not read by CLIP alone", "model.clip_skip", "remove it")
    if settings.clip_skip is not None:
        _refuse_skipped(settings.clip_skip, family, folder)
    if settings.true_cfg is not None and family.name not in TRULY_GUIDED:
        what = f"the guidance of this family ({family.name}) is not distilled: it is the row's guidance"
        raise WeightsError(what, "model.true_cfg", "remove it, and set defaults.guidance")


def _refuse_skipped(count: int, family: Family, folder: Path) -> None:
    """A text encoder needs more layers than are left out: SDXL's pipeline leaves out one already."""
    for part in ("text_encoder", "text_encoder_2"):
        config = folder / part / "config.json"
        layers = int(read_json(config).get("num_hidden_layers", 12)) if config.is_file() else 12
        if count + (family.name == "sdxl") > layers:
            raise WeightsError(f"{part} has {layers} layers, of which {count} cannot be left out", "model.clip_skip", "make it smaller")


def sampler_changes(settings: ModelSettings, config: Mapping[str, object], spoken: Mapping[str, object]) -> dict[str, object]:
    """What changes in the sampler's configuration. `spoken`: what a single file says of its training, which the job may overrule."""
    changes: dict[str, object] = dict(spoken)
    if settings.scheduler is not None:
        changes |= SCHEDULERS[settings.scheduler][2]
    if settings.prediction_type is not None:
        changes["prediction_type"] = settings.prediction_type
    if settings.zero_snr is not None:
        changes["rescale_betas_zero_snr"] = settings.zero_snr
    if settings.sigmas is not None:
        changes |= dict([SIGMAS[settings.sigmas]])
        others = {flag: False for flag, value in SIGMAS.values() if value is True and flag not in changes and config.get(flag)}
        changes |= others if settings.sigmas != "sgm_uniform" else {}
    if "use_flow_sigmas" in changes:  # the same shift under another name
        changes["flow_shift"] = settings.shift or config.get("shift", config.get("flow_shift", 1.0))
    elif settings.shift is not None:
        changes["shift"] = settings.shift
    return changes
