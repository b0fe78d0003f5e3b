"""Memory modes: the fastest that fits, and messages that name both sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import WeightsError
from pipeline.models import ModelSettings, load, resolve
from pipeline.models.memory import available_bytes, check_host, choose_mode
from tests.standins import sd_folder

GB = 10**9
SDXL = [5 * GB, int(1.4 * GB), int(0.25 * GB), int(0.17 * GB)]
"""UNet, two text encoders and VAE in 16 bit."""


@pytest.mark.parametrize(("free", "mode"), [(80, "full"), (8, "offload"), (6, "sequential"), (1, "sequential")])
def test_auto_takes_the_fastest_mode_that_fits(free: int, mode: str) -> None:
    assert choose_mode("auto", SDXL, free * GB) == mode


def test_a_mode_that_does_not_fit_names_both_sizes_and_one_that_does() -> None:
    with pytest.raises(WeightsError) as caught:
        choose_mode("full", SDXL, 8 * GB)
    assert "needs about 8.3 GB" in caught.value.what and "8.0 GB are free" in caught.value.what
    assert caught.value.remedy == "set model.memory: offload"
    with pytest.raises(WeightsError, match=r"set model\.memory: sequential"):
        choose_mode("offload", SDXL, 6 * GB)
    assert choose_mode("sequential", SDXL, GB) == "sequential"


def test_weights_larger_than_the_machine_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"take 6\.8 GB of memory, 4\.0 GB are available"):
        check_host(SDXL, 4 * GB)
    check_host(SDXL, 8 * GB)


def test_loading_refuses_what_the_machine_cannot_hold() -> None:
    settings = ModelSettings(weights=str(sd_folder()), device="cpu")
    resolved = resolve(settings)
    available = available_bytes()
    assert available is not None
    with pytest.raises(WeightsError, match="are available"):
        load(replace(resolved, parameters=(("unet", available),)), settings)
