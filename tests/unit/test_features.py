"""Features by weights on disk: from a folder to vectors, and every folder that cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from renderfarm.errors import WeightsError
from renderfarm.models.features import FeatureNet, cosine
from tests import encoders

PICTURES = list(np.random.default_rng(1).integers(0, 255, (3, 40, 60, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.clip(tmp_path_factory.mktemp("clip"))


def test_clip_gives_pictures_and_words_one_space(clip: Path) -> None:
    import torch
    import transformers as t

    net = FeatureNet(clip)
    seen, said = net.pictures(PICTURES), net.texts(["a red mug", "x " * 100, ""])
    assert net.words and seen.shape == said.shape == (3, 16) and seen.dtype == np.float32 and net.size == 16
    assert [net.cut(text) for text in ("a red mug", "x " * 100, "")] == [False, True, False]
    assert np.allclose(seen[1:2], net.pictures(PICTURES[1:2]), atol=1e-5), "one by one as together"
    model, processor = t.CLIPModel.from_pretrained(clip), t.CLIPProcessor.from_pretrained(clip)
    inputs = processor(text=["a red mug"], images=PICTURES[0], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits_per_image / model.logit_scale.exp()
    assert cosine(seen[:1], said[:1])[0] == pytest.approx(float(expected[0, 0]), abs=1e-5)


def test_an_encoder_of_pictures_alone(tmp_path: Path) -> None:
    net = FeatureNet(encoders.dino(tmp_path))
    assert not net.words and net.pictures(PICTURES).shape == (3, 12)


def test_the_digest_is_of_all_that_is_read(clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(clip, other)
    (other / "README.md").write_text("nothing")
    assert FeatureNet(other).digest == FeatureNet(clip).digest
    config = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**config, "image_mean": [0.1, 0.2, 0.3]}))
    assert FeatureNet(other).digest != FeatureNet(clip).digest


def test_folders_that_give_no_features_are_named(clip: Path, tmp_path: Path) -> None:
    def changed(name: str) -> Path:
        shutil.copytree(clip, tmp_path / name)
        return tmp_path / name

    with pytest.raises(WeightsError, match=r"no weights with a config\.json"):
        FeatureNet(tmp_path / "nowhere")
    (other := changed("other")).joinpath("config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="'bert' gives no features"):
        FeatureNet(other)
    (pickle := changed("pickle")).joinpath("model.safetensors").rename(pickle / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="a pickle"):
        FeatureNet(pickle)
    (disguised := changed("disguised")).joinpath("model.safetensors").write_bytes(b"PK\x03\x04" + b"0" * 200)
    with pytest.raises(WeightsError, match="a pickle"):
        FeatureNet(disguised)
    (none := changed("none")).joinpath("model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no \.safetensors file"):
        FeatureNet(none)
    (cut := changed("cut")).joinpath("model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(WeightsError, match="where its header says"):
        FeatureNet(cut)
    (blind := changed("blind")).joinpath("preprocessor_config.json").unlink()
    (blind / "processor_config.json").unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        FeatureNet(blind)
    (dumb := changed("dumb")).joinpath("tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (dumb / name).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="there is no tokenizer"):
        FeatureNet(dumb)
    tensors = load_file(clip / "model.safetensors")
    tensors.pop("visual_projection.weight")
    save_file(tensors, (partial := changed("partial")) / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="1 tensors are missing, such as visual_projection"):
        FeatureNet(partial)
