"""From a job's model settings to files with a digest, once per job, in the driver, without torch or diffusers.

Everything a user can get wrong about weights is refused here, before anything renders. `Resolved` is small and pickles;
each renderer gets it and verifies the digest of what it loads (`pipeline.models.load`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import WeightsError
from pipeline.models import hub
from pipeline.models.adapters import ResolvedAdapter, resolve_adapter
from pipeline.models.families import OTHER, SCHEDULERS, family_of, samplers_for
from pipeline.models.fingerprint import cache_folder, combined, fingerprint
from pipeline.models.layout import PICKLES, Layout, pickle_error, read_layout
from pipeline.models.licence import Licence, read_licence
from pipeline.models.settings import STARTER, ModelSettings
from pipeline.models.starter import STANDIN_NAME, starter_folder


@dataclass(frozen=True, slots=True)
class Resolved:
    """Weights that may be loaded. `digest`: SHA-256 over `files` as `fingerprint.combined` defines it; `path`: their
    folder.

    `parameters`: component → number of weights. `size_multiple`: width and height in pixels must be multiples
    of it.
    """

    weights: str
    path: str
    revision: str
    digest: str
    licence: str
    licence_use: str
    licence_source: str
    pipeline_class: str
    family: str
    scheduler: str
    size_multiple: int
    files: tuple[str, ...]
    variant: str | None
    parameters: tuple[tuple[str, int], ...]
    adapters: tuple[ResolvedAdapter, ...] = ()
    warnings: tuple[str, ...] = ()


def resolve(settings: ModelSettings) -> Resolved:
    """Returns the files and the identity of the weights that `settings` name; a Hub id is downloaded if it is not
    cached.

    Raises WeightsError: missing, damaged, a pickle, code among the weights, a Hub id without revision, an unknown
    sampler, a licence that forbids commercial use and was not accepted.
    """
    name, folder = locate(settings.weights, settings.revision)
    layout = read_layout(folder)
    licence = read_licence(folder)
    if licence.use == "non-commercial" and not settings.accept_licence:
        raise WeightsError(
            f"the licence {licence.name!r} ({licence.source}) forbids commercial use",
            name,
            "if you have the right to use them, set model.accept_licence: true; else choose other weights",
        )
    files = fingerprint(folder, layout.files, cache=cache_folder())
    family = family_of(layout.pipeline_class)
    return Resolved(
        weights=name,
        path=str(folder),
        revision=settings.revision or "",
        digest=combined(files),
        licence=licence.name,
        licence_use=licence.use,
        licence_source=licence.source,
        pipeline_class=layout.pipeline_class,
        family=family.name,
        scheduler=_scheduler(settings, layout),
        size_multiple=family.size_multiple,
        files=layout.files,
        variant=layout.variant,
        parameters=layout.parameters,
        adapters=tuple(resolve_adapter(key, value, family, folder) for key, value in sorted(settings.adapters.items())),
        warnings=tuple(_warnings(name, layout, licence)),
    )


def locate(weights: str, revision: str | None) -> tuple[str, Path]:
    """Returns the name for the record and the local folder. A folder that exists wins over a Hub id of the same
    spelling."""
    if weights in (STARTER, STANDIN_NAME):
        return starter_folder()
    path = Path(weights).expanduser()
    if path.is_dir():
        return weights, path.resolve()
    if path.suffix in PICKLES:
        raise pickle_error(path)
    if path.is_file():
        raise WeightsError(
            "a single file holds neither configs nor tokenizers",
            weights,
            "convert it once: StableDiffusionPipeline.from_single_file(file).save_pretrained(folder), or the class of its family",
        )
    if not hub.HUB_ID.fullmatch(weights):
        raise WeightsError("there is no such folder", weights, "give a local diffusers folder, a Hub id `owner/name`, or `starter`")
    if revision is None:
        raise WeightsError(
            "there is no such folder, and as a Hub id it has no pinned revision",
            weights,
            "set model.revision to the full commit hash that the Hub shows under `Files and versions`",
        )
    return weights, hub.fetch(weights, revision)


def _scheduler(settings: ModelSettings, layout: Layout) -> str:
    """Returns the diffusers class of the sampler. Raises WeightsError for one that is unknown or cannot sample this
    family."""
    if settings.scheduler is None:
        return layout.scheduler_class
    fitting = samplers_for(family_of(layout.pipeline_class))
    if settings.scheduler not in fitting:
        problem = "cannot sample this family" if settings.scheduler in SCHEDULERS else "is unknown"
        raise WeightsError(f"the sampler {settings.scheduler!r} {problem}", "model.scheduler", f"use one of: {', '.join(fitting)}")
    return SCHEDULERS[settings.scheduler][0]


def _warnings(name: str, layout: Layout, licence: Licence) -> list[str]:
    """Returns what a user should read before rendering with these weights."""
    found = []
    if name == STANDIN_NAME:
        found.append("no trained weights: a tiny random stand-in draws coloured noise")
    if licence.use == "unknown":
        found.append(f"licence {licence.name!r} ({licence.source}): nobody checked whether commercial use is allowed")
    if licence.use == "restricted":
        found.append(f"licence {licence.name!r} ({licence.source}) sets conditions for commercial use: read them")
    if family_of(layout.pipeline_class) is OTHER:
        found.append(f"{layout.pipeline_class} is not among the tested families: rendered by its own plain call")
    if layout.has_safety_checker:
        found.append("the weights bring a safety checker; it is not run, because it blackens pictures without saying so")
    return found
