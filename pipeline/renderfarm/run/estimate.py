"""How long a job will take and what that costs, from what was measured: the job's own last rate, or else this machine's renderers.

The job's rate counts accepted images by all renderers together, rejections and checks included. A renderer's remembered speed
(`renderfarm.render.rates`) knows neither: it says what one device needs to draw every image once, or `defaults.of` times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from renderfarm import machine
from renderfarm.job import JobSettings
from renderfarm.plan import BatchKey
from renderfarm.render.rates import recall


@dataclass(frozen=True, slots=True)
class Estimate:
    """`hours` on the wall; `renderer_hours`: of all renderers (GPU hours where each has a GPU), which is what costs."""

    rate_per_s: float | None = None
    rate_from: str | None = None
    hours: float | None = None
    renderer_hours: float | None = None
    cost: str | None = None


def estimate(job: JobSettings, digest: str, groups: Mapping[BatchKey, int], left: int, rate: float | None, cache: Path) -> Estimate:
    """`groups`: planned images by batch key; `left`: images not final yet; `rate`: accepted images/s of the job's last run.

    With `farm.renderers: auto` the number of renderers is not known before a cluster is joined: one is assumed. The renderers of a machine
    without a GPU are priced as one.
    """
    renderers = job.farm.renderers_most or 1
    priced = renderers if job.farm.engine == "ray" or (job.model.device != "cpu" and machine.gpus()) else 1
    if rate:
        return _estimate(job, left, rate, priced, f"at this job's last measured {rate:.4g} images/s")
    seconds, devices = 0.0, set()
    for key, images in groups.items():
        known = recall(cache, digest, key.width, key.height, key.steps)
        if known is None:
            return Estimate()
        seconds += images * job.defaults.of * known.image_s
        devices.add(known.device)
    if not seconds:
        return Estimate()
    rate = sum(groups.values()) / seconds * renderers
    where, times = " and ".join(sorted(devices)), "once" if job.defaults.of == 1 else f"{job.defaults.of} times"
    return _estimate(job, left, rate, priced, f"at {rate:.4g} images/s, measured on {where}, every image drawn {times}")


def _estimate(job: JobSettings, left: int, rate: float, priced: int, origin: str) -> Estimate:
    hours = left / rate / 3600
    price = job.cost.per_hour
    cost = None if price is None else f"{hours * priced * price:.2f} {job.cost.currency}"
    return Estimate(round(rate, 4), origin, round(hours, 3), round(hours * priced, 3), cost)
