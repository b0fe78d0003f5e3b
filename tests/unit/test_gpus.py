"""No GPU is had twice: by claims that end with their process, whatever it is called by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from renderfarm import machine
from renderfarm.errors import Stopped
from renderfarm.farm.ray_engine import ray_engine
from renderfarm.run import here
from renderfarm.workers.gpus import claimed
from tests.unit.test_local_engine import order

NAMES = ("test-a", "test-b")


def never() -> bool:
    return False


def test_two_runs_have_different_gpus_and_a_third_waits_until_one_is_free() -> None:
    with claimed(NAMES, 1, never) as first:
        with claimed(NAMES, None, never) as second:
            assert (first, second) == (("test-a",), ("test-b",))
            with pytest.raises(Stopped, match="had every GPU"), claimed(NAMES, None, lambda: True, sleep=lambda seconds: None):
                pass
        with claimed(NAMES, None, never) as third:
            assert third == ("test-b",), "the second is done"
    with claimed(NAMES, None, never) as all_of_them:
        assert all_of_them == NAMES


def test_without_gpus_nothing_is_claimed() -> None:
    with claimed((), None, never) as none:
        assert none == ()


def test_a_killed_run_has_none() -> None:
    script = """
import sys
from renderfarm.workers.gpus import claimed
with claimed(["test-c"], None, lambda: False):
    print("has it", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-P", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "has it\n"
    with pytest.raises(Stopped), claimed(["test-c"], None, lambda: True):
        pass
    other.kill()
    other.communicate()
    with claimed(["test-c"], None, never) as mine:
        assert mine == ("test-c",)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_both_engines_wait_for_gpus_that_others_have(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(NAMES))
    open_engine = here.open_engine if engine == "local" else ray_engine(None)
    with claimed(NAMES, None, never), pytest.raises(Stopped, match="had every GPU"), open_engine(order(), lambda: True):
        pass


def test_a_gpu_is_the_same_by_its_number_and_by_its_uuid(tmp_path: Path) -> None:
    for bus, uuid in (("0000:41:00.0", "GPU-22"), ("0000:01:00.0", "GPU-11")):
        card = tmp_path / "proc/driver/nvidia/gpus" / bus
        card.mkdir(parents=True)
        (card / "information").write_text(f"Model: \t NVIDIA H200\nIRQ: 200\nGPU UUID: \t {uuid}-3333\n")
    assert machine.identity("0", tmp_path) == machine.identity("GPU-11-3333", tmp_path) == "0000:01:00.0"
    assert machine.identity("1", tmp_path) == machine.identity("GPU-22", tmp_path) == "0000:41:00.0"
    assert machine.identity("MIG-44", tmp_path) == "MIG-44"
