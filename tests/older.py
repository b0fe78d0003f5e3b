"""The outputs that earlier versions wrote (`tests/data/outputs`), copied to where a test may write."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.resolve import ResolvedJob
from renderfarm.run.session import job_keys
from renderfarm.schema import PLAIN_VERSION, Record
from renderfarm.storage import open_storage

DATA = Path(__file__).parent / "data"
OUTPUTS = DATA / "outputs"
KEYS = "worthless-test-keys"


@dataclass(frozen=True, slots=True)
class Older:
    """The copy of one older job: its folder, and what its own version said of it (`expected.json`)."""

    folder: Path
    expected: dict[str, Any]

    @property
    def job(self) -> Path:
        """The job file; all its paths are relative to it."""
        return self.folder / "job.yaml"

    @property
    def output(self) -> Path:
        """What the job wrote."""
        return self.folder / "output"

    @property
    def keys(self) -> Path:
        """The key set that it was signed and marked with."""
        return self.folder / KEYS

    @property
    def trust(self) -> Path:
        """What an auditor has."""
        return self.keys / "trust"

    @property
    def kept(self) -> Path:
        """The checkpoint after the first two parts, as an auditor kept it."""
        return self.folder / "kept.checkpoint"

    def records(self) -> list[dict[str, Any]]:
        """The records as that version exported them."""
        return [json.loads(line) for line in (self.folder / "export.jsonl").read_text("utf-8").splitlines()]

    def delivered(self) -> list[dict[str, Any]]:
        """The records, by the checks or by a person, of accepted pictures that still lie where they were put."""
        found = [record for record in self.records() if record["outcome"] == "accepted" and record["object_key"]]
        return [record for record in found if (self.output / record["object_key"]).exists()]


def copy(version: int, to: Path) -> Older:
    """A copy of the output with records of this version. A checkout cannot keep private files private, so that is mended here."""
    folder = to / f"v{version}"
    shutil.copytree(OUTPUTS / folder.name, folder)
    for path in (folder / KEYS).rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return Older(folder, json.loads((folder / "expected.json").read_text("utf-8")))


def begin_plain(job: ResolvedJob) -> None:
    """Begins the job's output as the program did before record version 4: the scheme stays."""
    storage, key_set = open_storage(job.job.output.to, create=True), job_keys(job.job)[0]
    writer = LogWriter.open(storage, job.job.name, Signer(key_set.log_name, key_set.log_public, key_set.sign_log))
    writer.record_version = PLAIN_VERSION
    plan = {"manifest_digest": job.manifest_digest, "settings_digest": job.settings_digest, "planned": job.planned}
    writer.append([Record("plan", PLAIN_VERSION, job=job.job.name, plan_digest=job.plan_digest, **plan)])
