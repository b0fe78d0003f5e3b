"""From a job's model settings to files with a digest, once per job, in the driver, without torch or diffusers.

Everything a user can get wrong about weights is refused here, before anything renders. `Resolved` is small and pickles;
each renderer gets it and verifies the digest of what it loads (`renderfarm.models.load`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError
from renderfarm.job.model import STARTER, ModelSettings
from renderfarm.models import hub
from renderfarm.models.adapters import ResolvedAdapter, resolve_adapter, shapes_in
from renderfarm.models.checkpoint import spoken_sampler, supplied_by, weights_in
from renderfarm.models.control import COMPONENT, ResolvedControl, resolve_control
from renderfarm.models.embeddings import ResolvedEmbedding, resolve_embedding
from renderfarm.models.encoders import refuse_apart
from renderfarm.models.families import SCHEDULERS, Family, family_of, samplers_for
from renderfarm.models.layout import Layout, read_json, read_layout, read_parts
from renderfarm.models.licence import Licence, read_licence
from renderfarm.models.sampling import refuse_sampling
from renderfarm.models.speed import refuse_modes
from renderfarm.weights.fingerprint import FileDigest, combined, fingerprint
from renderfarm.weights.headers import PICKLES, gguf_error, pickle_error

STARTER_FOLDER = Path(__file__).resolve().parent.parent / "starter"
CHECKPOINT_NAME = "checkpoint.safetensors"
"""How a single file enters the digest."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Weights that may be loaded. `digest`: SHA-256 over `files` as `fingerprint.combined` defines it; `path`: their
    folder.

    `parameters`: component → number of weights. `sampler`: what a single file says of its training that the sampler's own
    configuration does not. `size_multiple`: width and height in pixels must be multiples of it, at most `side_max`, and there are at
    most `steps_max` steps; 0 where there is no limit. `checkpoint`: a single file that holds the weights of the components `supplied`;
    empty for a folder.
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
    checkpoint: str = ""
    supplied: tuple[str, ...] = ()
    control: ResolvedControl | None = None
    embeddings: tuple[ResolvedEmbedding, ...] = ()
    sampler: tuple[tuple[str, object], ...] = ()
    steps_max: int = 0
    side_max: int = 0

    @property
    def beside(self) -> dict[str, str]:
        """Digests of what is loaded beside the weights, as `beside` names them."""
        words = {one.word: one.sha256 for one in self.embeddings}
        return beside({one.name: one.sha256 for one in self.adapters}, self.control.digest if self.control else None, words)


def beside(adapters: Mapping[str, str], controlnet: str | None, embeddings: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Returns what is loaded beside the weights, by name: "adapter NAME", "embedding WORD" or "controlnet" → SHA-256."""
    named = {f"embedding {word}": digest for word, digest in embeddings.items()}
    named |= {f"adapter {name}": digest for name, digest in adapters.items()}
    return named | ({"controlnet": controlnet} if controlnet else {})


def resolve(settings: ModelSettings) -> Resolved:
    """Returns the files and the identity of the weights that `settings` name; a Hub id is downloaded if it is not
    cached.

    Raises WeightsError: missing, damaged, a pickle, code among the weights, a Hub id without revision, an unknown
    sampler, a licence that forbids commercial use and was not accepted.
    """
    name, folder = locate(settings)
    checkpoint = checkpoint_of(settings)
    family = family_of(read_parts(folder)[0])
    supplied = _supplied(folder, checkpoint)
    layout = read_layout(folder, supplied)
    licence = read_licence(folder)
    if checkpoint is not None and (own := read_licence(checkpoint.parent)).name != "unknown":
        licence = own
    if licence.use == "non-commercial" and not settings.accept_licence:
        raise WeightsError(
            f"the licence {licence.name!r} ({licence.source}) forbids commercial use",
            name,
            "if you have the right to use them, set model.accept_licence: true; else choose other weights",
        )
    files = digests(folder, layout.files, checkpoint, cache=cache_folder())
    scheduler = _scheduler(settings, layout)
    refuse_modes(settings, family, scheduler)
    refuse_sampling(settings, family, folder, scheduler)
    refuse_apart(settings.encoders, family)
    spoken = spoken_sampler(checkpoint, folder, scheduler) if checkpoint else {}
    shapes = shapes_in(folder, family, supplied) if settings.adapters and family.adapters else {}
    control = None
    if settings.controlnet is not None:
        control = resolve_control(settings.controlnet, family, folder, accept_licence=settings.accept_licence)
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
        scheduler=scheduler,
        size_multiple=family.size_multiple,
        files=layout.files,
        variant=layout.variant,
        parameters=layout.parameters
        + (weights_in(checkpoint) if checkpoint else ())
        + (((COMPONENT, control.parameters),) if control else ()),
        adapters=tuple(resolve_adapter(key, value, family, shapes) for key, value in sorted(settings.adapters.items())),
        warnings=(*_warnings(name, layout, licence), *(f"the file says that it was trained with {k}: {v}" for k, v in spoken.items())),
        checkpoint=str(checkpoint or ""),
        supplied=supplied,
        control=control,
        embeddings=tuple(resolve_embedding(word, file, family, folder) for word, file in sorted(settings.embeddings.items())),
        sampler=tuple(sorted(spoken.items())),
        steps_max=_steps_max(folder, scheduler),
        side_max=_side_max(folder, family),
    )


EITHER = frozenset(name for name, kinds, _ in SCHEDULERS.values() if "flow" in kinds and not name.startswith("FlowMatch"))
"""Samplers that can be told to sample a flow."""

DISTILLED = ("LCMScheduler", "TCDScheduler")
"""Samplers whose steps are some of those that the weights were distilled to (`original_inference_steps`)."""


def _steps_max(folder: Path, scheduler: str) -> int:
    config = folder / "scheduler" / "scheduler_config.json"
    if scheduler not in DISTILLED or not config.is_file():
        return 0
    return int(read_json(config).get("original_inference_steps") or 50)


def _side_max(folder: Path, family: Family) -> int:
    """Where positions are a table of fixed size (SD 3), what it covers in pixels."""
    config = folder / family.denoiser / "config.json"
    table = read_json(config) if config.is_file() else {}
    return int(table.get("pos_embed_max_size") or 0) * int(table.get("patch_size") or 2) * 8


def locate(settings: ModelSettings) -> tuple[str, Path]:
    """Returns the name for the record and the local folder: of the weights, or of what a single file lacks. A folder that
    exists wins over a Hub id of the same spelling."""
    weights, revision = settings.weights, settings.revision
    if weights == STARTER:
        return weights, starter_folder()
    if checkpoint_of(settings) is not None:
        return weights, _config_folder(settings)
    if settings.config is not None and not weights.endswith(".safetensors"):
        raise WeightsError("it goes with a single .safetensors file", "model.config", "remove it, or name the file in model.weights")
    path = Path(weights).expanduser()
    if path.is_dir():
        return weights, path.resolve()
    if not hub.HUB_ID.fullmatch(weights) or path.suffix == ".safetensors":
        kind = "file" if path.suffix else "folder"
        raise WeightsError(
            f"there is no such {kind}",
            weights,
            "give a local diffusers folder, a .safetensors file with model.config, a Hub id `owner/name`, or `starter`",
        )
    if revision is None:
        raise WeightsError(
            "there is no such folder, and as a Hub id it has no pinned revision",
            weights,
            "set model.revision (or pass --set model.revision=HASH) to the full commit hash that the Hub shows under `Files and versions`",
        )
    return weights, hub.fetch(weights, revision)


def starter_folder(folder: Path = STARTER_FOLDER) -> Path:
    """Returns the folder of the trained weights that come with the package. Raises WeightsError where they are not."""
    if not (folder / "model_index.json").is_file():
        raise WeightsError("the starter weights are missing from this installation", str(folder), "reinstall renderfarm")
    return folder


def checkpoint_of(settings: ModelSettings) -> Path | None:
    """Returns the single file that `model.weights` names; None for a folder or a Hub id. Raises WeightsError for a pickle."""
    path = Path(settings.weights).expanduser()
    if path.suffix in PICKLES and not path.is_dir():
        raise pickle_error(path)
    if path.suffix == ".gguf" and path.is_file():
        raise gguf_error(path)
    return path.resolve() if path.is_file() else None


def _config_folder(settings: ModelSettings) -> Path:
    if settings.config is None:
        raise WeightsError(
            "a single file holds neither configs nor tokenizers",
            settings.weights,
            "set model.config to a local diffusers folder of the same family (its weights are not needed)",
        )
    folder = Path(settings.config).expanduser().resolve()
    if not folder.is_dir():
        raise WeightsError("there is no such folder", settings.config, "set model.config to a local diffusers folder of the same family")
    return folder


def _supplied(folder: Path, checkpoint: Path | None) -> tuple[str, ...]:
    """Returns the components whose weights are in the single file. Raises WeightsError when it is of no use with this folder."""
    if checkpoint is None:
        return ()
    pipeline_class, parts = read_parts(folder)
    family = family_of(pipeline_class)
    if not family.single_file:
        raise WeightsError(f"{pipeline_class} cannot be loaded from a single file", str(checkpoint), "use a diffusers folder")
    return supplied_by(checkpoint, parts, family)


def digests(folder: Path, names: Iterable[str], checkpoint: Path | None, *, cache: Path | None) -> tuple[FileDigest, ...]:
    """Returns the digest of every file that loading reads; a single file goes by one fixed name, wherever it lies."""
    files = fingerprint(folder, names, cache=cache)
    if checkpoint is None:
        return files
    (own,) = fingerprint(checkpoint.parent, [checkpoint.name], cache=cache)
    return (*files, FileDigest(CHECKPOINT_NAME, own.size, own.sha256))


def _scheduler(settings: ModelSettings, layout: Layout) -> str:
    """Returns the diffusers class of the sampler. Raises WeightsError for one that is unknown or cannot sample this
    family."""
    if settings.scheduler is None:
        flow = family_of(layout.pipeline_class).prediction == "flow"
        if flow != layout.scheduler_class.startswith("FlowMatch") and layout.scheduler_class not in EITHER:
            what = f"the weights' own sampler, {layout.scheduler_class}, cannot sample this family"
            raise WeightsError(what, "model_index.json", "set model.scheduler")
        return layout.scheduler_class
    fitting = samplers_for(family_of(layout.pipeline_class))
    if settings.scheduler not in fitting:
        problem = "cannot sample this family" if settings.scheduler in SCHEDULERS else "is unknown"
        raise WeightsError(f"the sampler {settings.scheduler!r} {problem}", "model.scheduler", f"use one of: {', '.join(fitting)}")
    return SCHEDULERS[settings.scheduler][0]


def _warnings(name: str, layout: Layout, licence: Licence) -> list[str]:
    """Returns what a user should read before rendering with these weights."""
    warnings = []
    if licence.use == "unknown":
        warnings.append(f"licence {licence.name!r} ({licence.source}): nobody checked whether commercial use is allowed")
    if licence.use == "restricted":
        warnings.append(f"licence {licence.name!r} ({licence.source}) sets conditions for commercial use: read them")
    if layout.has_safety_checker:
        warnings.append("the weights bring a safety checker; it is not run, because it blackens pictures without saying so")
    return warnings
