"""What a run does with an output before it opens the log: tries the storage, claims it, shows a lease, finds the salt, writes job.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import time

from renderfarm.cache import cache_folder, recall, remember
from renderfarm.errors import AlreadyStored, JobError, NotStored
from renderfarm.job import JobSettings
from renderfarm.log.lease import Lease
from renderfarm.logs import get_logger
from renderfarm.output import IMAGES, INBOX, JOB_FILE, JOB_FILE_BYTES_MAX, REPORT, REVIEW, SALT, THUMBS, VALUES
from renderfarm.records.salts import SALT_BYTES
from renderfarm.resolve import ResolvedJob
from renderfarm.storage import Probe, S3Storage, Storage, probe

log = get_logger()

PROBED = ("provenance/", VALUES, INBOX, IMAGES, REVIEW, THUMBS, REPORT)
"""Prefixes under which a run writes: a policy may allow one and refuse another."""
PROBES_FILE, PROBED_S = "stores.json", 86_400.0


def probed(storage: Storage, notes: list[str]) -> Probe:
    """What the storage does, under every prefix that will be written; of a bucket remembered for a day, once it is known to fence.

    Parts themselves are not tried: what lies there may never be removed. The first part is written before anything renders.
    """
    if not isinstance(storage, S3Storage):
        return probe(storage)
    path, key = cache_folder() / PROBES_FILE, hashlib.sha256(storage.identity.encode()).hexdigest()
    known = recall(path).get(key)
    if isinstance(known, dict) and isinstance(at := known.get("at"), float) and 0 <= time.time() - at < PROBED_S:
        found = Probe(True, known.get("deletes") is True, known.get("versioned") is True)
    else:
        found = probe(storage, PROBED)
        if found.fences:
            remember(path, {key: {"at": time.time(), "deletes": found.deletes, "versioned": found.versioned}})
    log.info("storage.probed", uri=storage.uri, fences=found.fences, deletes=found.deletes, versioned=found.versioned)
    if not found.deletes:
        notes.append("this storage refuses to remove what is written: `renderfarm gc` cannot collect what crashes leave")
    return found


def take_lease(storage: Storage, fences: bool, notes: list[str]) -> Lease:
    """Shows that a driver is at work; where writers cannot be fenced it keeps a second one away. Raises: Fenced, StorageAway."""
    if not fences:
        log.warning("storage.not_fenced", uri=storage.uri)
        what = "this storage lets several writers of one new object win: two drivers are kept apart by a lease only"
        notes.append(f"{what}; run one at a time")
    lease = Lease(storage, fences=fences)
    lease.take()
    return lease


def claim_output(storage: Storage, job: JobSettings) -> None:
    """Refuse an output that another job wrote."""
    try:
        owner = json.loads(storage.get(JOB_FILE, JOB_FILE_BYTES_MAX)).get("name")
    except NotStored:
        return
    except (ValueError, AttributeError) as error:
        raise JobError("job.json in the output is no job file", storage.uri, "restore it, or choose another output") from error
    if owner != job.name:
        remedy = f"choose another output, or name this job {owner!r} if it is the same"
        raise JobError(f"this output belongs to job {owner!r}, not to {job.name!r}", storage.uri, remedy)


_SALT = re.compile(rb"([0-9a-f]{%d})\n" % (2 * SALT_BYTES))


def output_salt(storage: Storage) -> str:
    """What the manifest's digest is hashed with; made where there is none. Raises: JobError for a file that holds no salt; StorageAway."""
    try:
        said = storage.get(SALT, 2 * SALT_BYTES + 1)
    except NotStored:
        with contextlib.suppress(AlreadyStored):  # by another driver, a moment ago
            storage.put_new(SALT, secrets.token_hex(SALT_BYTES).encode() + b"\n", "text/plain")
        said = storage.get(SALT, 2 * SALT_BYTES + 1)
    found = _SALT.fullmatch(said)
    if found is None:
        remedy = "restore it, or take it away: the next run makes another, and records the plan anew"
        raise JobError(f"{SALT} holds no salt", storage.uri, remedy)
    return found[1].decode()


def write_job_file(storage: Storage, resolved: ResolvedJob) -> None:
    try:
        if storage.get(JOB_FILE, len(resolved.job_json)) == resolved.job_json:
            return
    except NotStored:
        pass
    storage.put(JOB_FILE, resolved.job_json, "application/json")
