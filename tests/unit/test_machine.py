"""What a machine lends: the least of what it has and what the groups around this process allow; GPUs that NVIDIA's driver does not list."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from renderfarm import machine

GB = 1 << 30
HERE = machine.cores(Path("/no/such/folder"))
"""Cores without any limit."""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": f"MemTotal: {64 * GB // 1024} kB\nMemAvailable: {48 * GB // 1024} kB\n"}
TWO = {"proc/self/cgroup": "0::/jobs/one\n"}
ONE = {"proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/x\n1:cpu,cpuacct:/docker/x\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 48 * GB),
        ({**TWO, "sys/fs/cgroup/jobs/one/memory.max": "max\n", "sys/fs/cgroup/jobs/one/memory.current": "5"}, 48 * GB),
        (
            {
                **TWO,
                "sys/fs/cgroup/jobs/one/memory.max": f"{8 * GB}\n",
                "sys/fs/cgroup/jobs/one/memory.current": f"{3 * GB}\n",
                "sys/fs/cgroup/jobs/one/memory.stat": f"anon 7\ninactive_file {GB}\n",
            },
            6 * GB,
        ),
        ({**TWO, "sys/fs/cgroup/jobs/memory.max": f"{2 * GB}\n", "sys/fs/cgroup/jobs/memory.current": f"{3 * GB}\n"}, 0),
        ({**TWO, "sys/fs/cgroup/memory.max": f"{4 * GB}\n"}, 4 * GB),  # a container sees its own group as the root
        (
            {
                **ONE,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * GB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
            },
            7 * GB,
        ),
        ({**ONE, "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "9223372036854771712\n"}, 48 * GB),
    ],
)
def test_memory_is_what_the_machine_and_every_group_around_allow(files: dict[str, str], free: int, tmp_path: Path) -> None:
    assert machine.free_bytes(tree(tmp_path, {**MEMINFO, **files})) == free


def test_without_a_word_about_memory_none_is_known(tmp_path: Path) -> None:
    assert machine.free_bytes(tmp_path) is None
    assert (machine.free_bytes() or 0) > 0


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, HERE),
        ({**TWO, "sys/fs/cgroup/jobs/one/cpu.max": "max 100000\n"}, HERE),
        ({**TWO, "sys/fs/cgroup/jobs/one/cpu.max": "50000 100000\n"}, 1),
        ({**TWO, "sys/fs/cgroup/jobs/cpu.max": "100000 100000\n"}, 1),
        ({**TWO, "sys/fs/cgroup/cpu.max": "150000 100000\n"}, min(2, HERE)),
        ({**ONE, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, HERE),
        ({**ONE, "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "90000", "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_cores_are_what_the_machine_and_every_group_around_allow(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert machine.cores(tree(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("visible", "names"),
    [("2,3", ("2", "3")), ("GPU-5c, MIG-7", ("GPU-5c", "MIG-7")), ("", ()), ("-1", ()), ("0,-1,1", ("0",))],
)
def test_gpus_that_the_user_chose_keep_their_names(visible: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == names


@pytest.mark.parametrize(
    ("file", "torch", "names"),
    [
        ("proc/driver/nvidia/gpus/0000:01:00.0/information", "raise OSError", ("0",)),
        ("dev/kfd", "class cuda:\n    device_count = staticmethod(lambda: 2)", ("0", "1")),
        ("dev/dxg", "raise ImportError('libcuda.so is broken')", ()),
        ("dev/dxg", "import os; os._exit(7)", ()),
        ("dev/nvme0", "class cuda:\n    device_count = staticmethod(lambda: 2)", ()),
    ],
)
def test_gpus_that_no_driver_lists_are_asked_for(
    file: str, torch: str, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, {file: "", "packages/torch.py": torch})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.fspath(root / "packages"))
    assert machine.gpus(root) == names
