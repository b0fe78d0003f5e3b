"""job.json, as it lies beside an output: read without judging the settings that only its writer needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from renderfarm.errors import JobError, NotStored
from renderfarm.models import ModelSettings, beside
from renderfarm.output import JOB_FILE, JOB_FILE_BYTES_MAX
from renderfarm.storage import Storage


@dataclass(frozen=True, slots=True)
class JobFile:
    """What job.json says that outlives versions of this program: read without judging the rest of its settings."""

    name: str
    attempts: int
    quality: int
    model: Mapping[str, object]
    checks: Mapping[str, object]
    keys: str | None
    media_type: str
    allow_unmarked: bool
    beside: Mapping[str, str] = field(default_factory=dict)
    """Digests of what was loaded beside the weights, as `models.beside` names them."""

    def model_settings(self) -> ModelSettings:
        """The model's settings. Raises: JobError when this version does not understand them."""
        try:
            return ModelSettings.model_validate(self.model)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            remedy = "use the version that the records name (renderfarm_version)"
            raise JobError("the model's settings were written by another version", JOB_FILE, remedy, wrong) from error


def read_job_file(storage: Storage) -> JobFile:
    """The job that wrote an output. Raises: JobError where there is none."""
    try:
        content = json.loads(storage.get(JOB_FILE, JOB_FILE_BYTES_MAX))
        settings = content["settings"]
        quality, attempts = int(settings["output"]["quality"]), int(settings["checks"]["attempts"])
        keys = settings.get("keys")
        named = keys if isinstance(keys, str) else None
        media_type, unmarked = f"image/{settings['output'].get('format', 'png')}", settings.get("mark", {}).get("allow_unmarked") is True
        model, checks, weights = dict(settings["model"]), dict(settings["checks"]), content.get("weights") or {}
        loaded = beside(weights.get("adapters") or {}, (weights.get("controlnet") or {}).get("digest"), weights.get("embeddings") or {})
        return JobFile(str(content["name"]), attempts, quality, model, checks, named, media_type, unmarked, loaded)
    except (NotStored, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "name the folder or prefix that a job wrote"
        raise JobError("no output of a job: job.json is missing or damaged", storage.uri, remedy) from error
