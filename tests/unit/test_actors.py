"""What a worker makes of a fault: which ones it survives, and which inputs it takes."""

from __future__ import annotations

import hashlib
import pickle
import pickletools
from dataclasses import replace
from pathlib import Path

import pytest

from renderfarm.errors import RenderFailed, WeightsError
from renderfarm.job import JobSettings
from renderfarm.models import ModelSettings, resolve
from renderfarm.plan import Intent, attempt_of, plan_row
from renderfarm.run.workers import RendererWorker, device_lost, read_inputs
from renderfarm.schema import Attempt, PromptRow
from tests import standins
from tests.standins import folder_of


def attempt(picture: Path, digest: str) -> Attempt:
    job = JobSettings.model_validate({"name": "tests", "manifest": "-", "output": "-"})
    (image,) = plan_row(PromptRow("a", "a mug", init_image=str(picture)), "d", Intent(job, "0" * 64))
    return attempt_of(replace(image, init_digest=digest), 1)


def test_an_input_is_read_only_as_it_was_resolved(tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    picture.write_bytes(b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    assert read_inputs([attempt(picture, digest)] * 2) == {digest: b"one"}
    picture.write_bytes(b"two")
    with pytest.raises(RenderFailed, match="changed since the plan"):
        read_inputs([attempt(picture, digest)])
    picture.unlink()
    with pytest.raises(RenderFailed, match="cannot be read any more"):
        read_inputs([attempt(picture, digest)])


def test_a_broken_cuda_context_ends_the_worker_and_a_full_memory_does_not() -> None:
    assert device_lost(RuntimeError("CUDA error: device-side assert triggered"))
    assert not device_lost(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert not device_lost(RuntimeError("CUDA error: out of memory"))
    assert not device_lost(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not device_lost(WeightsError("CUDA error"))


def test_weights_that_cannot_be_loaded_are_said_when_the_renderer_should_be_ready(tmp_path: Path) -> None:
    """As a value until then: an exception in an actor's constructor would reach the driver as text, and end in the wrong exit code."""
    model = ModelSettings(weights=str(folder_of("sd2")), device="cpu")
    job = JobSettings.model_validate({"name": "t", "manifest": "m", "output": "o", "model": model})
    worker = RendererWorker(replace(resolve(model), digest="0" * 64), job, bytes(32))
    answer = worker.ready()
    assert isinstance(answer, WeightsError) and "the job was resolved with" in str(answer)


def worker() -> RendererWorker:
    """One over tiny random weights."""
    model = {"weights": str(folder_of("sd2")), "device": "cpu"}
    job = JobSettings.model_validate({"name": "a", "manifest": "m", "output": "o", "model": model})
    return RendererWorker(resolve(job.model), job, bytes(32))


def test_a_reply_brings_no_library_along() -> None:
    """Whoever unpickles it would import the library: a class of torch's named its version once."""
    reply = worker().render([standins.attempt("a" * 32, size=(256, 256), steps=1)])
    assert reply[0] is not None
    classes = {value for _, value, _ in pickletools.genops(pickle.dumps(reply)) if isinstance(value, str) and value.startswith("torch")}
    assert classes == set()
