"""CUDA graphs, all but CUDA itself: what is recorded is repeated on fixed memory, per bucket, and what cannot be recorded just runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from renderfarm.errors import WeightsError
from renderfarm.models import ModelSettings, resolve
from renderfarm.models.families import family_of
from renderfarm.models.graphs import RECORDINGS_MAX, Graphed
from renderfarm.models.speed import refuse_modes
from renderfarm.render import Renderer
from tests.standins import attempt, folder_of

CPU = torch.device("cpu")


class Recorder:
    """Repeats by running the work again and writing into the first outputs, as a graph does: it sees the fixed inputs only."""

    def __init__(self) -> None:
        self.recorded = self.repeated = 0

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        self.recorded += 1
        made = work()

        def repeat() -> None:
            self.repeated += 1
            for place, tensor in zip(made, work(), strict=True):
                place.copy_(tensor)

        return repeat, made


def graphed(made: Renderer, recorder: Recorder) -> Graphed:
    denoiser = getattr(made.model.pipe, made.model.family.denoiser)
    denoiser.forward = Graphed(denoiser.forward, recorder, CPU)
    return denoiser.forward  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "sana"])
def test_repeated_steps_draw_the_same_bytes(name: str) -> None:
    settings = ModelSettings(weights=str(folder_of(name)), device="cpu", batch=4)
    plain, repeating = (Renderer(resolve(settings), settings) for _ in range(2))
    recorder = Recorder()
    graphed(repeating, recorder)
    units = [[attempt("a", seed=s, steps=3), attempt("b", seed=s + 1, steps=3)][: 1 + s % 2] for s in range(4)]
    for unit in units:
        assert repeating.render(unit)[0].tobytes() == plain.render(unit)[0].tobytes()
    assert recorder.recorded == 2, "one for each batch size"
    assert recorder.repeated >= 4 * 3, "every step of every unit"


def double(x: torch.Tensor, *, scale: float = 2.0, ids: dict[str, torch.Tensor] | None = None) -> tuple[torch.Tensor]:
    return (x * scale + (ids["a"] if ids else 0),)


def test_an_output_stays_when_the_recording_is_repeated() -> None:
    made = Graphed(double, Recorder(), CPU)
    (first,) = made(torch.ones(2), ids={"a": torch.ones(2)})
    (second,) = made(torch.full((2,), 5.0), ids={"a": torch.zeros(2)})
    assert first.tolist() == [3, 3] and second.tolist() == [10, 10]
    assert len(made.recordings) == 1


def test_what_is_no_tensor_makes_a_bucket_of_its_own_and_old_ones_are_dropped() -> None:
    recorder = Recorder()
    made = Graphed(double, recorder, CPU)
    for scale in range(RECORDINGS_MAX + 3):
        assert made(torch.ones(1), scale=float(scale))[0].item() == scale
    assert recorder.recorded == RECORDINGS_MAX + 3 and len(made.recordings) == RECORDINGS_MAX


def test_what_cannot_be_recorded_runs_and_is_not_tried_again() -> None:
    tried = []

    def refuses(work: Callable[[], Any]) -> Any:
        tried.append(work)
        raise RuntimeError("operation not permitted when stream is capturing")

    made = Graphed(double, refuses, CPU)
    for _ in range(3):
        assert made(torch.ones(1))[0].item() == 2
    assert len(tried) == 1
    other = Graphed(lambda x, how: (x,), Recorder(), CPU)
    assert other(torch.ones(1), object())[0].item() == 1 and not other.recordings
    elsewhere = Graphed(double, Recorder(), torch.device("cuda", 0))
    assert elsewhere(torch.ones(1))[0].item() == 2 and not elsewhere.recordings


def test_out_of_memory_frees_the_recordings_and_passes_through() -> None:
    recorder = Recorder()
    made = Graphed(double, recorder, CPU)
    made(torch.ones(1))

    def full(work: Callable[[], Any]) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    made.record = full
    with pytest.raises(torch.cuda.OutOfMemoryError):
        made(torch.ones(2))
    assert not made.recordings


def test_without_cuda_the_setting_changes_nothing() -> None:
    settings = ModelSettings.model_validate({"weights": str(folder_of("sd")), "device": "cpu", "speed": {"graphs": True}})
    made = Renderer(resolve(settings), settings)
    assert not isinstance(made.model.pipe.unet.forward, Graphed)


@pytest.mark.parametrize("with_it", [{"slots": True}, {"lossy": {"reuse": 2}}, {"memory": "offload"}])
def test_modes_that_do_not_go_together_are_refused(with_it: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="repeats what was recorded"):
        ModelSettings.model_validate({"speed": {"graphs": True}, **with_it})


@pytest.mark.parametrize("mode", [{"speed": {"graphs": True}}, {"speed": {"compile": "full"}}, {"lossy": {"quantise": "int8"}}])
def test_nothing_is_done_to_a_family_that_it_is_not_proven_for(mode: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="not proven for this family"):
        refuse_modes(ModelSettings.model_validate(mode), family_of("ZImagePipeline"), "FlowMatchEulerDiscreteScheduler")
