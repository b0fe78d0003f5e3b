"""Where the weights named `starter` lie: those that come with the package, or else the random stand-in in the user's
cache.

The stand-in is built once per version of torch and diffusers, in a process of its own, under a lock, and put in place
by one rename: several processes may ask at once, and a crash leaves only a temporary folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from renderfarm.cache import cache_folder
from renderfarm.errors import WeightsError

STANDIN_NAME = "starter (random stand-in)"
STANDIN_VERSION = 1
BUILD_TIMEOUT_S = 300.0

EMBEDDED = Path(__file__).resolve().parent.parent / "starter"
"""Where trained starter weights lie when the package has them."""


def starter_folder() -> tuple[str, Path]:
    """Returns the name to put in the record, and the folder. Raises WeightsError when the stand-in cannot be built."""
    if (EMBEDDED / "model_index.json").is_file():
        return "starter", EMBEDDED
    return STANDIN_NAME, standin_folder(cache_folder())


def standin_folder(cache: Path) -> Path:
    """Returns the folder of the random stand-in under `cache`, built if it is not there yet."""
    folder = cache / f"standin-{STANDIN_VERSION}-torch-{version('torch')}-diffusers-{version('diffusers')}"
    if (folder / "model_index.json").is_file():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "standin.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "model_index.json").is_file():
                _build(folder)
    except OSError as error:
        raise WeightsError(
            f"the random stand-in cannot be written ({error})", str(cache), "free space there, or set XDG_CACHE_HOME"
        ) from error
    return folder


def _build(folder: Path) -> None:
    """Builds beside `folder` and renames. A crash before the rename leaves a temporary folder that nothing reads."""
    work = Path(tempfile.mkdtemp(prefix="standin-", dir=folder.parent))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        command = [sys.executable, "-m", "renderfarm.models.standin", str(work / "out")]
        package_root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package_root, environment.get("PYTHONPATH", ""))))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise WeightsError(f"the random stand-in could not be built: {last[0]}", str(folder), "reinstall renderfarm")
        shutil.rmtree(folder, ignore_errors=True)  # a half-removed cache, without its model_index.json
        os.rename(work / "out", folder)
    except subprocess.TimeoutExpired as error:
        raise WeightsError("building the random stand-in took too long", str(folder), "run it again") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
