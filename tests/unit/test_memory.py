"""Memory modes: the fastest that fits, and messages that name both sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from renderfarm import machine
from renderfarm.errors import WeightsError
from renderfarm.models import AdapterSettings, ModelSettings, load, resolve
from renderfarm.models.memory import BESIDE, CPU_ENCODERS_MAX, Placement, check_host, choose_mode, place
from tests.standins import folder_of

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


NAMED = dict(zip(("unet", "text_encoder_2", "text_encoder", "vae"), SDXL, strict=True))


@pytest.mark.parametrize(
    ("free", "wanted"),
    [(80, Placement("full")), (8, Placement("full", "cpu")), (6.6, Placement("offload")), (6, Placement("sequential"))],
)
def test_auto_puts_light_encoders_on_the_cpu_before_it_offloads(free: float, wanted: Placement) -> None:
    assert place("auto", "auto", NAMED, int(free * GB), light_encoders=True) == wanted


def test_heavy_encoders_and_those_with_adapters_stay_beside() -> None:
    assert place("auto", "auto", NAMED, 8 * GB) == Placement("offload")
    assert place("auto", BESIDE, NAMED, 8 * GB, light_encoders=True) == Placement("offload")
    assert CPU_ENCODERS_MAX < 4_700_000_000, "T5-XXL"


def test_encoders_elsewhere_take_no_room_on_the_gpu() -> None:
    assert place("full", "cpu", NAMED, 7 * GB) == Placement("full", "cpu")
    assert place("auto", "cuda:1", NAMED, 7 * GB) == Placement("full", "cuda:1")
    assert place("offload", "cpu", NAMED, 7 * GB) == Placement("offload", "cpu")
    with pytest.raises(WeightsError, match=r"'full' needs about 6\.7 GB on the GPU, 6\.5 GB are free"):
        place("full", "cpu", NAMED, int(6.5 * GB))
    with pytest.raises(WeightsError, match=r"set model\.encoders: cpu, or set model\.memory: offload"):
        place("full", "auto", NAMED, 8 * GB)


def test_encoders_on_a_gpu_that_is_not_there_are_refused() -> None:
    settings = ModelSettings(weights=str(folder_of("sd2")), device="cpu", encoders="cuda:9")
    with pytest.raises(WeightsError, match="there is no cuda:9: this process sees") as caught:
        load(resolve(settings), settings)
    assert caught.value.where == "model.encoders"


def test_encoders_elsewhere_do_not_go_with_adapters() -> None:
    with pytest.raises(ValueError, match="not with encoders elsewhere"):
        ModelSettings(adapters={"half": AdapterSettings(path="half.safetensors")}, encoders="cpu")
    with pytest.raises(ValueError, match="encoders"):
        ModelSettings(encoders="gpu")


def test_weights_larger_than_the_machine_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"take 6\.8 GB of memory, 4\.0 GB are available"):
        check_host(SDXL, 4 * GB)
    check_host(SDXL, 8 * GB)


def test_loading_refuses_what_the_machine_cannot_hold() -> None:
    settings = ModelSettings(weights=str(folder_of("sd2")), device="cpu")
    resolved = resolve(settings)
    available = machine.free_bytes()
    assert available is not None
    with pytest.raises(WeightsError, match="are available"):
        load(replace(resolved, parameters=(("unet", available),)), settings)
