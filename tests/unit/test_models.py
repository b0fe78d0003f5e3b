"""Resolving: which weights are refused, and why; what their digest depends on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from renderfarm.errors import WeightsError
from renderfarm.models import AdapterSettings, ModelSettings, load, resolve
from renderfarm.models.licence import classify, read_licence
from renderfarm.models.quiet import drop_foreign_warnings
from renderfarm.models.resolve import starter_folder
from renderfarm.weights.fingerprint import combined, fingerprint
from tests.standins import folder_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A private copy of a stand-in with a licence, to damage."""
    copy = Path(shutil.copytree(folder_of("sd2"), tmp_path / "weights"))
    (copy / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return copy


def refusal(**settings: object) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        resolve(ModelSettings.model_validate(settings))
    assert caught.value.remedy, "every refusal says what to do"
    return caught.value


def test_resolving_names_the_weights_and_their_licence(folder: Path) -> None:
    resolved = resolve(ModelSettings(weights=str(folder)))
    assert (resolved.weights, resolved.path, resolved.revision) == (str(folder), str(folder), "")
    assert (resolved.licence, resolved.licence_use, resolved.licence_source) == (
        "apache-2.0",
        "commercial",
        "model card",
    )
    assert (resolved.pipeline_class, resolved.family, resolved.scheduler) == (
        "StableDiffusionPipeline",
        "sd",
        "DDIMScheduler",
    )
    assert len(resolved.digest) == 64
    assert pickle.loads(pickle.dumps(resolved)) == resolved


def test_resolving_imports_no_heavy_library() -> None:
    folder = str(folder_of("sd2"))
    code = (
        "import sys; from renderfarm.models import ModelSettings, resolve; from renderfarm.render import Renderer; "
        f"resolve(ModelSettings(weights={folder!r})); "
        "print([name for name in ('torch', 'diffusers', 'transformers', 'numpy') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_one_flipped_byte_or_a_renamed_file_changes_the_digest(folder: Path) -> None:
    before = resolve(ModelSettings(weights=str(folder))).digest
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    after = resolve(ModelSettings(weights=str(folder))).digest
    assert after != before
    weights.rename(weights.with_name("model.safetensors"))
    assert resolve(ModelSettings(weights=str(folder))).digest not in (before, after)


def test_files_that_loading_does_not_read_leave_the_digest_alone(folder: Path) -> None:
    before = resolve(ModelSettings(weights=str(folder))).digest
    (folder / "README.md").write_text("no header")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")
    shutil.copy(
        folder / "unet" / "diffusion_pytorch_model.safetensors",
        folder / "unet" / "diffusion_pytorch_model.fp16.safetensors",
    )
    assert resolve(ModelSettings(weights=str(folder))).digest == before


def test_the_digest_cache_answers_only_while_size_and_times_stand(tmp_path: Path) -> None:
    file, cache = tmp_path / "w.json", tmp_path / "cache"
    file.write_bytes(b"one")
    first = fingerprint(tmp_path, ["w.json"], cache=cache)
    known = json.loads((cache / "digests.json").read_text())
    (cache / "digests.json").write_text(json.dumps({key: "f" * 64 for key in known}))
    assert fingerprint(tmp_path, ["w.json"], cache=cache)[0].sha256 == "f" * 64, "the cache is used"
    assert fingerprint(tmp_path, ["w.json"], cache=None) == first, "verifying does not use it"
    file.write_bytes(b"two")
    assert fingerprint(tmp_path, ["w.json"], cache=cache)[0].sha256 not in ("f" * 64, first[0].sha256)
    (cache / "digests.json").write_text("{ damaged")
    assert fingerprint(tmp_path, ["w.json"], cache=cache) != first


def test_the_combined_digest_is_the_documented_one(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    text = f"a\x000\x00{empty}\nb\x003\x00{abc}\n"
    assert combined(fingerprint(tmp_path, ["b", "a"], cache=None)) == hashlib.sha256(text.encode()).hexdigest()


def test_loading_verifies_what_was_resolved(folder: Path) -> None:
    settings = ModelSettings(weights=str(folder))
    resolved = resolve(settings)
    config = folder / "scheduler" / "scheduler_config.json"
    stat = config.stat()
    config.write_text(config.read_text().replace("v_prediction", "epsilon     "[:12]))
    os.utime(config, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(WeightsError, match="the job was resolved with"):
        load(resolved, settings)


def test_a_missing_folder_and_an_unpinned_hub_id_are_told_apart(tmp_path: Path) -> None:
    assert "no such folder" in refusal(weights=str(tmp_path / "nowhere")).what
    error = refusal(weights="some-owner/some-model")
    assert "no pinned revision" in error.what and "model.revision" in error.remedy
    with pytest.raises(ValidationError, match="full commit hash"):
        ModelSettings(weights="some-owner/some-model", revision="main")


def test_a_cached_hub_repository_resolves_without_network(folder: Path, tmp_path: Path) -> None:
    """A process of its own, since huggingface_hub reads where its cache lies when it is imported."""
    home = tmp_path / "hub"
    repository = home / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / COMMIT).write_text(COMMIT)
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    code = (
        "from renderfarm.models import ModelSettings, resolve; "
        f"r = resolve(ModelSettings(weights='owner/name', revision='{COMMIT}')); print(r.weights, r.revision, r.path)"
    )
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["owner/name", COMMIT, str(repository / "snapshots" / COMMIT)]


def test_a_pickle_is_refused_under_any_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x02")
    assert "pickle" in refusal(weights=str(tmp_path / "model.ckpt")).what
    (tmp_path / "single.safetensors").write_bytes(b"{}")
    assert "model.config" in refusal(weights=str(tmp_path / "single.safetensors")).remedy
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(b"PK\x03\x04 a zip file, as torch.save writes it")
    assert "pickle" in refusal(weights=str(folder)).what
    unet.rename(unet.with_suffix(".bin"))
    error = refusal(weights=str(folder))
    assert "pickle" in error.what and error.where.endswith("unet/diffusion_pytorch_model.bin")


@pytest.mark.parametrize("low", [b"\x80", b"PK"])
def test_a_length_whose_low_bytes_a_pickle_could_begin_with_is_a_length(folder: Path, low: bytes) -> None:
    """One header in 32 begins with 0x80, since lengths are multiples of 8; a length of 19,280 begins as a zip file does."""
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    before, data = resolve(ModelSettings(weights=str(folder))).parameters, path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    padded = length
    while not struct.pack("<Q", padded).startswith(low):
        padded += 8
    path.write_bytes(struct.pack("<Q", padded) + data[8 : 8 + length].ljust(padded) + data[8 + length :])
    assert resolve(ModelSettings(weights=str(folder))).parameters == before


def test_damaged_and_missing_files_are_named(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-100])
    assert f"has {len(data) - 100} bytes where its header says {len(data)}" in refusal(weights=str(folder)).what
    weights.write_bytes(data[:40])
    assert "cut off" in refusal(weights=str(folder)).what
    weights.unlink()
    assert "no weights" in refusal(weights=str(folder)).what
    shutil.rmtree(folder / "vae")
    assert refusal(weights=str(folder)).what == "component 'vae' is missing"
    (folder / "model_index.json").unlink()
    assert refusal(weights=str(folder)).where.endswith("model_index.json")


def test_code_among_the_weights_is_refused(folder: Path) -> None:
    config = folder / "text_encoder" / "config.json"
    plain = config.read_text()
    config.write_text(json.dumps({**json.loads(plain), "auto_map": {"AutoModel": "x.Y"}}))
    assert "auto_map" in refusal(weights=str(folder)).what
    config.write_text(plain)
    index = folder / "model_index.json"
    good = json.loads(index.read_text())
    index.write_text(json.dumps({**good, "unet": ["my_unet", "MyUNet"]}))
    assert "'my_unet'" in refusal(weights=str(folder)).what
    index.write_text(json.dumps({**good, "_class_name": ["pipeline", "Mine"]}))
    assert "never runs code" in refusal(weights=str(folder)).what
    index.write_text(json.dumps(good))
    (folder / "unet" / "my_unet.py").write_text("")
    assert "code lies among the weights" in refusal(weights=str(folder)).what


def test_a_non_commercial_licence_must_be_accepted(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n")
    error = refusal(weights=str(folder))
    assert "forbids commercial use" in error.what and "accept_licence" in error.remedy
    resolved = resolve(ModelSettings(weights=str(folder), accept_licence=True))
    assert (resolved.licence, resolved.licence_use) == ("flux-1-dev-non-commercial-license", "non-commercial")


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("Apache-2.0", "commercial"),
        ("openrail++", "restricted"),
        ("creativeml-openrail-m", "restricted"),
        ("cc-by-nc-4.0", "non-commercial"),
        ("cc-by-nc-sa-4.0", "non-commercial"),
        ("flux-1-dev-non-commercial-license", "non-commercial"),
        ("some-noncommercial-thing", "non-commercial"),
        ("hippocratic-license", "unknown"),
        ("sync-license", "unknown"),
        ("other", "unknown"),
    ],
)
def test_licences_are_classified(name: str, use: str) -> None:
    assert classify(name) == use


@pytest.mark.parametrize(
    ("card", "name"),
    [
        (None, "unknown"),
        ("# No header\nlicense: mit\n", "unknown"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit"),
        ("---\r\nlicense: MIT\r\ntags: [a]\r\n---\r\n", "mit"),
        ("---\n- a list\n---\n", "unknown"),
        ("---\nlicense: {{ broken\n---\n", "unknown"),
        ("---\nlicense: mit\n", "unknown"),
    ],
)
def test_model_cards_are_read(tmp_path: Path, card: str | None, name: str) -> None:
    if card is not None:
        (tmp_path / "README.md").write_bytes(card.encode())
    assert read_licence(tmp_path).name == name


def test_samplers_are_checked_against_the_family(folder: Path) -> None:
    assert resolve(ModelSettings(weights=str(folder), scheduler="euler")).scheduler == "EulerDiscreteScheduler"
    assert "is unknown" in refusal(weights=str(folder), scheduler="eulr").what
    error = refusal(weights=str(folder), scheduler="flow_euler")
    assert "cannot sample this family" in error.what and "dpmpp_2m" in error.remedy


def test_adapters_get_a_digest_and_bad_ones_are_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    (tmp_path / "a.pt").write_bytes(b"\x80\x02")
    assert "pickle" in refusal(weights=str(folder), adapters={"a": {"path": str(tmp_path / "a.pt")}}).what
    assert "no such file" in refusal(weights=str(folder), adapters={"a": {"path": str(tmp_path / "b.safetensors")}}).what
    with pytest.raises(ValidationError, match="adapter name"):
        ModelSettings(adapters={"a b": AdapterSettings(path=str(file))})


def test_starter_weights_that_an_installation_lacks_are_a_broken_installation(tmp_path: Path) -> None:
    assert resolve(ModelSettings(weights="starter")).path == str(starter_folder())
    with pytest.raises(WeightsError, match="the starter weights are missing from this installation") as caught:
        starter_folder(tmp_path)
    assert (caught.value.where, caught.value.remedy) == (str(tmp_path), "reinstall renderfarm")


def test_every_setting_is_described() -> None:
    for model in (ModelSettings, AdapterSettings):
        assert all(field.description for field in model.model_fields.values())


def test_of_two_weight_files_of_one_part_the_one_that_is_read_counts(folder: Path) -> None:
    before = resolve(ModelSettings(weights=str(folder)))
    copy = folder / "unet" / "model.safetensors"
    copy.write_bytes((folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes())
    after = resolve(ModelSettings(weights=str(folder)))
    copy.unlink()
    assert (after.parameters, after.digest) == (before.parameters, before.digest) and "unet/model.safetensors" not in after.files


def test_foreign_warnings_are_dropped_in_every_thread() -> None:
    """Two threads at once, with the lists that pytest puts back: nothing that a library warns of its own code reaches the user."""
    import warnings

    heard: list[object] = []

    def work(_: int) -> None:
        for _ in range(200):
            drop_foreign_warnings()
            warnings.warn_explicit("its own affair", FutureWarning, "x.py", 1, module="diffusers.schedulers.x", registry={})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drop_foreign_warnings()
        with ThreadPoolExecutor(4) as pool:
            heard += pool.map(work, range(4))
        count = len(warnings.filters)
        drop_foreign_warnings()
        assert len(warnings.filters) == count
    assert heard == [None] * 4
