"""Brings the files of one commit of a Hugging Face Hub repository into the Hub's own local cache. The only network
access of `models`.

What is cached already is used without asking the network, so a farm without internet works once a node's cache is
filled.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from renderfarm.errors import WeightsError
from renderfarm.models.layout import SKIPPED

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_WANTED = ["model_index.json", "README.md", "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja", "*/*.safetensors"]


def fetch(repository: str, revision: str, wanted: list[str] | None = None) -> Path:
    """Returns the local folder that holds the repository at this commit: its files `wanted` (patterns), or those of a pipeline.

    Raises WeightsError when it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{repository}@{revision}"
    download = partial(
        snapshot_download,
        repository,
        revision=revision,
        allow_patterns=wanted or _WANTED,
        ignore_patterns=[f"{name}/*" for name in SKIPPED],
    )
    try:
        return Path(download(local_files_only=True))
    except LocalEntryNotFoundError:
        pass  # not cached: ask the network
    try:
        return Path(download())
    except GatedRepoError as error:
        raise WeightsError("its owner wants you to accept terms first", where, "accept them on the Hub, then set HF_TOKEN") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise WeightsError("the Hub has no such repository or commit", where, "check the id and the revision") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"it is not in the local cache and cannot be downloaded ({reason})", where, "check the network") from error
