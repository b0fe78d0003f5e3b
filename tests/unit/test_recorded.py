"""What the record says of settings that changed pixels: each as a typed pair, none forgotten."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from renderfarm.models import ModelSettings, resolve
from renderfarm.render import Renderer, recorded
from renderfarm.schema import Adapter, RenderInfo
from tests.standins import attempt, folder_of
from tests.unit.test_adapters import unet_lora


def drawn(name: str, adapter: str | None = None, **changes: Any) -> RenderInfo:
    settings = ModelSettings.model_validate({"weights": str(folder_of(name)), "device": "cpu", "batch": 2, **changes})
    return Renderer(resolve(settings), settings).render([attempt(adapter=adapter)])[1]


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("sd", {}, {}),
        ("sd", {"scheduler": "dpmpp_2m_karras"}, {"sampler": "dpmpp_2m_karras", "sampler.use_karras_sigmas": True}),
        ("sd", {"scheduler": "euler", "slots": True}, {"sampler": "euler", "slots": True}),
        ("sd", {"deterministic": True, "lossy": {"reuse": 2}}, {"deterministic": True, "lossy.reuse": 2}),
        ("sd", {"speed": {"fuse_qkv": True, "channels_last": True}}, {"speed.channels_last": True, "speed.fuse_qkv": True}),
        ("sd", {"encoders": "cpu"}, {"encoders": "cpu"}),
    ],
)
def test_what_changed_pixels_is_said_and_nothing_else(name: str, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    info = drawn(name, **changes)
    assert {key: json.loads(value) for key, value in info.settings} == expected
    assert list(info.settings) == sorted(info.settings) and info.adapters == ()


def test_an_adapter_is_named_with_its_digest_and_weight(tmp_path: Path) -> None:
    path = unet_lora(tmp_path / "one.safetensors", 32)
    made = {"adapters": {"style": {"path": str(path), "scale": 0.5}, "other": {"path": str(path)}}}
    (said,) = drawn("sd", "style", **made).adapters
    assert said == Adapter("style", hashlib.sha256(path.read_bytes()).hexdigest(), 0.5)
    assert drawn("sd", **made).adapters == ()


def test_no_setting_of_the_model_is_forgotten() -> None:
    """A field that is added to the model's settings must be said, or be named as one that changes nothing."""
    source = Path(recorded.__file__).read_text()
    spoken = {"scheduler": "sampler"}
    for name in set(ModelSettings.model_fields) - recorded.ELSEWHERE:
        assert f'"{spoken.get(name, name)}' in source, name
