"""Detectors and safety classifiers of the real architectures, tiny and random: they load from a folder, run, and answer in pixels.

Random weights know nothing: what is tested is the way from a folder to boxes and probabilities, and every folder that cannot work.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from renderfarm.checks import registry
from renderfarm.checks.counts import CountsCheck
from renderfarm.checks.openvocabulary import OpenVocabulary
from renderfarm.checks.starterscene import StarterScene
from renderfarm.errors import WeightsError
from renderfarm.job.checks import ChecksSettings, CountsSettings
from renderfarm.models.vision import Detection, Detector, Safety, distinct
from renderfarm.schema import ObjectCount, PromptRow

ROW = PromptRow("r", "two mugs", objects=(ObjectCount("mug", 2),))
PICTURE = np.random.default_rng(1).integers(0, 255, (60, 80, 3)).astype(np.uint8)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "mug", "box"]


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    import transformers as t

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("dino")
    backbone = t.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2, out_features=["stage2", "stage3", "stage4"]
    )
    text = t.BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    size = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 32, "num_queries": 12}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_text_len": 16}
    config = t.GroundingDinoConfig(backbone_config=backbone, text_config=text, **size, **heads)
    t.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = t.BertTokenizer(str(folder / "vocab.txt"))
    image = t.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    t.GroundingDinoProcessor(image, tokenizer).save_pretrained(folder)
    return folder


def test_grounding_dino_is_loaded_and_its_boxes_are_in_the_picture(dino: Path) -> None:
    seen = Detector(dino).find(PICTURE, "Mug", 0.001)
    assert seen and all(0 <= one.confidence <= 1 for one in seen)
    assert [one.confidence for one in seen] == sorted((one.confidence for one in seen), reverse=True)
    found = OpenVocabulary(str(dino), 0.001).count(PICTURE, "mug")
    assert found.count == len(found.boxes) == len(seen)
    assert all(0 <= box.x0 < box.x1 <= 80 and 0 <= box.y0 < box.y1 <= 60 for box in found.boxes)
    strict = OpenVocabulary(str(dino), 0.999).count(PICTURE, "mug")
    assert strict.count < found.count


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    import transformers as t

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("owl")
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1, "pad_token_id": len(vocabulary) - 1}
    text = {**size, **ends, "vocab_size": len(vocabulary), "max_position_embeddings": 48}
    vision = {**size, "image_size": 64, "patch_size": 16}
    t.Owlv2ForObjectDetection(t.Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: at for at, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = t.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=48)
    t.Owlv2Processor(t.Owlv2ImageProcessor(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    return folder


def test_owlv2_is_loaded_and_its_boxes_are_in_the_picture(owl: Path) -> None:
    seen = Detector(owl).find(PICTURE, "Mug", 0.001)
    assert seen and all(0 <= one.confidence <= 1 for one in seen)
    assert [one.confidence for one in seen] == sorted((one.confidence for one in seen), reverse=True)
    assert all(0 <= sum(one.box[::2]) / 2 <= 80 and 0 <= sum(one.box[1::2]) / 2 <= 60 for one in seen), "none in the border that it adds"
    found = OpenVocabulary(str(owl), 0.001).count(PICTURE, "mug")
    assert found.count == len(found.boxes) == len(seen)
    assert all(0 <= box.x0 < box.x1 <= 80 and 0 <= box.y0 < box.y1 <= 60 for box in found.boxes)
    assert OpenVocabulary(str(owl), 0.999).count(PICTURE, "mug").count < found.count
    settings = ChecksSettings.model_validate({"counts": {"weights": str(owl), "confidence": 0.001}})
    (check,) = (c for c in registry.prepare(registry.build(settings)) if c.name == "counts")
    verdict = check.check(PICTURE, PromptRow("r", "mugs", objects=(ObjectCount("mug", found.count + 1),)))
    assert (verdict.outcome, verdict.reason) == ("rejected", f"{found.count} instead of {found.count + 1} mug")


def test_counts_by_a_detector_reject_with_numbers_and_boxes(dino: Path) -> None:
    settings = ChecksSettings.model_validate({"counts": {"weights": str(dino), "confidence": 0.001}})
    (check,) = (c for c in registry.prepare(registry.build(settings)) if c.name == "counts")
    seen = OpenVocabulary(str(dino), 0.001).count(PICTURE, "mug").count
    verdict = check.check(PICTURE, PromptRow("r", "mugs", objects=(ObjectCount("mug", seen + 1),)))
    assert (verdict.outcome, verdict.reason) == ("rejected", f"{seen} instead of {seen + 1} mug")
    assert len(verdict.boxes) == seen
    assert check.check(PICTURE, PromptRow("r", "mugs", objects=(ObjectCount("mug", seen),))).outcome == "accepted"


def test_folders_that_hold_no_detector_are_named(tmp_path: Path, dino: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights with a config\.json"):
        Detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="'bert' is no open-vocabulary detector"):
        Detector(tmp_path)
    (tmp_path / "config.json").write_text((dino / "config.json").read_text())
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Detector(tmp_path)
    broken = CountsCheck(CountsSettings(), [OpenVocabulary(str(tmp_path), 0.3)])
    (ready,) = registry.prepare([broken])
    assert ready.check(PICTURE, ROW).outcome == "not_run"


def test_one_thing_found_twice_is_one() -> None:
    seen = [Detection((0, 0, 10, 10), 0.9), Detection((1, 0, 10, 10), 0.8), Detection((20, 0, 30, 10), 0.7)]
    assert distinct(seen) == [seen[0], seen[2]]


def test_safety_by_a_classifier_and_by_the_checker(tmp_path: Path) -> None:
    import torch
    import transformers as t
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    torch.manual_seed(3)
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 16}
    labels = {"id2label": {0: "normal", 1: "nsfw"}, "label2id": {"normal": 0, "nsfw": 1}}
    t.ViTForImageClassification(t.ViTConfig(image_size=32, **vision, **labels)).save_pretrained(tmp_path / "vit")
    t.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    config = t.CLIPConfig(
        text_config={"hidden_size": 16, "num_hidden_layers": 1}, vision_config={"image_size": 224, **vision}, projection_dim=8
    )
    checker = StableDiffusionSafetyChecker(config)
    checker.save_pretrained(tmp_path / "sd")
    for name in ("vit", "sd"):
        assert 0 < Safety(tmp_path / name).unsafe(PICTURE) < 1
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2)
    checker.save_pretrained(tmp_path / "strict")
    settings = ChecksSettings.model_validate({"safety": {"enabled": True, "weights": str(tmp_path / "strict")}})
    (check,) = (c for c in registry.prepare(registry.build(settings)) if c.name == "safety")
    verdict = check.check(PICTURE, ROW)
    assert (verdict.outcome, verdict.reason) == ("rejected", "the picture may be unsafe to show")
    t.ViTForImageClassification(t.ViTConfig(image_size=32, **vision)).save_pretrained(tmp_path / "plain")
    with pytest.raises(WeightsError, match="does not tell unsafe pictures"):
        Safety(tmp_path / "plain")


def test_safety_needs_weights_and_is_off_by_default() -> None:
    assert "safety" not in [c.name for c in registry.build(ChecksSettings())]
    with pytest.raises(ValueError, match=r"needs safety\.weights"):
        ChecksSettings.model_validate({"safety": {"enabled": True}})


def test_the_starter_counter_knows_its_classes_and_says_when_it_is_not_sure() -> None:
    scene = StarterScene()
    assert scene.knows("Mugs") and scene.knows("boxes") and scene.knows("tote bag") and not scene.knows("cat")
    scene.prepare()
    greys = [scene.count(np.full((256, 256, 3), level, np.uint8), "mug") for level in (0, 60, 128, 200, 255)]
    assert None in greys
