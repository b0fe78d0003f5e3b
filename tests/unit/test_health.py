"""Who is well: strikes, known pictures and paces, one by one. All of it together, against sick renderers: tests/simulation/test_sick.py."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from renderfarm.errors import RenderFailed
from renderfarm.pictures import Fingerprint
from renderfarm.render.batching import DoesNotFit
from renderfarm.run.engine import CheckedUnit, Rendered, RenderLost
from renderfarm.run.health import STRIKES_MAX, Seat, Ward
from renderfarm.run.units import PendingAttempt, Unit
from renderfarm.schema import RenderInfo, Verdict
from renderfarm.workers import vitals
from renderfarm.workers.finish import Checked
from renderfarm.workers.worker import Known, may_be_its_own
from tests.standins import attempt

A, B, C = (Seat(host, "0") for host in "abc")
DRAWN = Known("d" * 64, bytes(range(256)), 255, "H200")
INFO = RenderInfo("w", "", "0" * 64, "none", "none", "none", "cpu", "", "0", "0")


def ward_of(*places: Seat, known: Known | None = DRAWN) -> Ward:
    ward = Ward("renderer")
    for place in places:
        ward.came(place, known)
    return ward


def unit(*names: str, number: int = 1) -> Unit:
    return Unit(number, tuple(PendingAttempt(attempt(name)) for name in names))


def checked(one: Unit, *verdicts: Verdict) -> CheckedUnit:
    rendered = Rendered(one, None, INFO, (True,), 0, 1.0, {})
    return CheckedUnit(one, rendered, (Checked(verdicts, Fingerprint("0" * 64, 0, "")),))


BLACK = Verdict("broken", "rejected", "the picture is black")


def test_an_image_goes_back_to_the_worker_that_failed_it_only_where_no_other_is_left() -> None:
    ward = ward_of(A, B)
    assert ward.failed(A, ["x"])
    assert [ward.fits(place, ["x"]) for place in (A, B)] == [False, True]
    assert ward.fits(A, ["y"])
    ward.failed(B, ["x"])
    assert ward.fits(A, ["x"]) and ward.fits(B, ["x"])


def test_a_worker_with_strikes_says_nothing_against_an_image() -> None:
    ward = ward_of(A, B, C)
    assert [ward.failed(A, [name]) for name in "xyz"] == [True, False, False]
    assert not ward.well(A), "others are there"
    ward.passed(B, ["x"])
    assert not ward.well(A), "what another renders takes no strike back"
    assert ward.failed(B, ["y"]) and ward.failed(C, ["y"])
    assert ward.well(A), "three failed with y: it is the image"


def test_strikes_do_not_put_the_last_worker_aside() -> None:
    ward = ward_of(A)
    for name in "vwxyz":
        ward.failed(A, [name])
    assert ward.well(A)


def test_nobody_is_blamed_and_nothing_is_tried_again_before_those_that_start_are_there() -> None:
    ward = ward_of(A, known=None)
    ward.expected.add(B)
    assert not ward.failed(A, ["x"]) and not ward.fits(A, ["x"])
    ward.went(B)
    assert ward.fits(A, ["x"])


@pytest.mark.parametrize(
    "known",
    [
        replace(DRAWN, trouble="cannot draw it"),
        replace(DRAWN, digest="flat", levels=bytes(256), span=0),
        replace(DRAWN, digest="other", levels=bytes(reversed(range(256)))),
    ],
    ids=["trouble", "black", "other"],
)
def test_what_the_known_picture_says_of_a_renderer_decides_what_its_failure_means(known: Known) -> None:
    ward = ward_of(A, B)
    one = unit("x")
    ward.gave(A, one)
    assert ward.hold(A, RenderLost(one, "out of memory"))
    (told,) = ward.judged(A, known)
    assert isinstance(told, RenderLost) and not told.blamed and told.reason.startswith("by the farm: ")
    assert A in ward.sick and not ward.well(A)
    ward.hold(B, RenderLost(one, "out of memory"))
    (told,) = ward.judged(B, replace(DRAWN, digest="rounded", levels=bytes(max(0, level - 1) for level in range(256))))
    assert isinstance(told, RenderLost) and told.blamed, "a level of rounding is as well as ever"


def test_a_black_picture_counts_only_if_its_renderer_draws_the_known_one() -> None:
    ward = ward_of(A, B)
    event = checked(unit("x"), BLACK)
    ward.gave(A, event.unit)
    assert ward.checked(event) == (event, A)
    ward.hold(A, event)
    assert ward.waits(A)
    assert ward.judged(A, DRAWN) == [event], "its prompt asked for it"
    ward.hold(A, event)
    assert isinstance(ward.judged(A, replace(DRAWN, span=0))[0], RenderLost)
    ward.gave(A, later := unit("y", number=2))
    told, asked = ward.checked(checked(later, BLACK))
    assert isinstance(told, RenderLost) and not told.blamed and asked is None, "what was still in flight there"


def test_a_renderer_that_draws_otherwise_than_most_of_its_kind_is_sick_from_the_start() -> None:
    other = replace(DRAWN, digest="other", levels=bytes(reversed(range(256))))
    ward = ward_of(A)
    assert ward.came(B, other), "one against one says nothing"
    ward.came(C, DRAWN)
    assert list(ward.sick) == [B]
    assert ward.came(Seat("d", "0"), replace(other, kind="L4")), "another kind may round otherwise"


def test_who_takes_four_times_as_long_as_its_like_twice_is_sick() -> None:
    ward = ward_of(A, B, C)
    for number, place in enumerate((A, B, C)):
        ward.paced(place, unit("x", number=number), 3.0)
    ward.paced(A, unit("x", number=4), 30.0)
    ward.paced(A, unit("x", "y", number=5), 60.0)
    assert not ward.sick, "nobody else rendered two images together"
    ward.paced(A, unit("x", number=6), 30.0)
    assert "10 times as long" in ward.sick[A]
    ward.paced(B, unit("z", number=7), 0.02)
    ward.paced(C, unit("z", number=8), 0.5)
    assert list(ward.sick) == [A]


def test_a_host_half_of_which_is_put_aside_is_left_while_another_is_there() -> None:
    places = [Seat("h", str(at)) for at in range(4)]
    ward = ward_of(*places, B)
    for place in places[:2]:
        ward.judged(place, replace(DRAWN, trouble="Xid 79"))
    assert not ward.well(places[3]) and ward.well(B)
    ward.went(B)
    assert ward.well(places[3])


def test_what_a_renderer_says_of_a_unit_may_be_its_own_fault_or_not() -> None:
    def raised(error: RenderFailed, cause: Exception | None) -> RenderFailed:
        error.__cause__ = cause
        return error

    assert not may_be_its_own(RenderFailed("width and height must be multiples of 8"))
    assert may_be_its_own(RenderFailed("the pixels are not finite numbers", 0))
    assert may_be_its_own(raised(RenderFailed("one image does not fit"), DoesNotFit("out of memory")))
    assert STRIKES_MAX == 3


class NVMLError(Exception):
    """As pynvml's."""


def nvml(xids: list[int], *, errors: tuple[int, int] = (0, 0), remapped: int = 0, throttle: int = 0) -> SimpleNamespace:
    """The part of pynvml that is used: events so far, memory errors before and now."""
    counts = iter(errors)

    def wait(events: object, timeout: int) -> SimpleNamespace:
        if not xids:
            raise NVMLError("timeout")
        return SimpleNamespace(eventData=xids.pop(0))

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlEventTypeXidCriticalError=8,
        NVML_MEMORY_ERROR_TYPE_UNCORRECTED=1,
        NVML_VOLATILE_ECC=0,
        nvmlDeviceGetHandleByUUID=lambda device: device,
        nvmlEventSetCreate=list,
        nvmlDeviceRegisterEvents=lambda handle, kinds, events: None,
        nvmlEventSetWait_v2=wait,
        nvmlDeviceGetTotalEccErrors=lambda handle, kind, counter: next(counts),
        nvmlDeviceGetRemappedRows=lambda handle: (0, 1, 0, remapped),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: throttle,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(free=2e9, total=80e9),
    )


class Hashable(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("said", "trouble", "note"),
    [
        ({"xids": []}, "", "2.0 of 80.0 GB free"),
        ({"xids": [31, 79]}, "Xid 79: fell off the bus", "2.0 of 80.0 GB free"),
        ({"xids": [], "errors": (3, 3)}, "", "2.0 of 80.0 GB free"),
        ({"xids": [], "errors": (3, 5)}, "2 uncorrectable memory errors in this run", "2.0 of 80.0 GB free"),
        ({"xids": [], "remapped": 1}, "a memory row could not be remapped", "2.0 of 80.0 GB free"),
        ({"xids": [], "throttle": 0x40 | 0x1}, "", "slowed down by heat; 2.0 of 80.0 GB free"),
    ],
)
def test_what_the_driver_says_of_a_gpu(said: dict[str, object], trouble: str, note: str) -> None:
    module = Hashable(**vars(nvml(**said)))  # type: ignore[arg-type]
    assert vitals.read(module, "GPU-1") == vitals.Vitals("GPU-1", trouble, note)


def test_the_known_picture_is_the_same_each_time_and_small() -> None:
    from tests.unit.test_actors import worker

    renderer = worker()
    first, second = renderer.known(), renderer.known()
    assert first == second and not first.trouble and len(first.levels) == 256 and first.span > 8
    assert np.frombuffer(first.levels, np.uint8).std() > 0
    assert [renderer.renderer.known(*size)[0].shape for size in ((512, 768), (64, 96))] == [(1, 128, 128, 3), (1, 96, 64, 3)]
