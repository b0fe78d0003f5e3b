"""Features kept in a file, so that a reference of fifty thousand pictures is looked at once, or was never here at all.

A `.safetensors` file: `features` float32 (N, size), `colours` float64 (N, 48); its metadata names the network by its digest, and the
source.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from renderfarm.errors import UserError
from renderfarm.evaluate.gather import QUANTILES, Sample, SampleSet
from renderfarm.weights.headers import check_safetensors, read_header

ENDING = ".safetensors"
_KIND = "renderfarm features 1"
_REMEDY = "write one with `renderfarm evaluate OUTPUT --features WEIGHTS --keep FILE.safetensors`"


def keep(path: Path, found: SampleSet, digest: str) -> None:
    """Writes them. Raises: UserError for a place that cannot be written, or another ending."""
    from safetensors.numpy import save_file

    check_place(path)
    assert found.features is not None
    about = {"kind": _KIND, "network": digest, "source": found.source, "rows": json.dumps([sample.row for sample in found.samples])}
    try:
        save_file({"features": found.features.astype(np.float32), "colours": found.colours}, path, about)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror or error}", str(path), "choose another place") from error


def check_place(path: Path) -> None:
    """Raises: UserError for what `keep` could not write, before hours are spent on it."""
    if path.suffix != ENDING:
        raise UserError(f"no format for {path.suffix or 'a name without suffix'}", str(path), f"end it in {ENDING}")
    if not path.parent.is_dir():
        raise UserError("cannot be written: there is no such folder to write it to", str(path), "choose another place")


def kept(path: Path, digest: str, size: int) -> SampleSet:
    """Reads them back, of the network with this digest, whose features have this size. Raises: UserError, WeightsError."""
    if not path.is_file():
        raise UserError("there is no such file", str(path), _REMEDY)
    check_safetensors(path)
    from safetensors.numpy import load_file

    about = read_header(path).get("__metadata__", {})
    arrays = load_file(path)
    features, colours = arrays.get("features"), arrays.get("colours")
    if about.get("kind") != _KIND or features is None or colours is None or features.ndim != 2:
        raise UserError("these are no features that were kept", str(path), _REMEDY)
    if features.shape[1] != size:
        raise UserError(f"its features have {features.shape[1]} numbers, those of --features {size}", str(path), "use one network for all")
    if about.get("network") != digest:
        raise UserError("its features are of another network than --features names", str(path), "use one network for all")
    try:
        rows = [str(row) for row in json.loads(about["rows"])]
    except (KeyError, ValueError, TypeError):
        rows = []
    if not (len(rows) == len(features) == len(colours)) or colours.shape[1:] != (3 * QUANTILES,) or not np.isfinite(features).all():
        raise UserError("the file does not agree with itself", str(path), _REMEDY)
    samples = tuple(Sample(f"#{at}", row, at) for at, row in enumerate(rows))
    return SampleSet(str(path), samples, colours.astype(np.float64), features.astype(np.float32))
