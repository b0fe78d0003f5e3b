"""What pyproject.toml asks for is what constraints.txt pins, so that a fresh installation has all it needs and no more."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> tuple[dict[str, str], dict[str, str]]:
    """Package and version: for rendering, and only for the tests."""
    parts = (ROOT / "constraints.txt").read_text().split("# --- only for the tests ---")
    found = [dict(line.split("==") for line in part.split() if "==" in line) for part in parts]
    return found[0], found[1]


def closure(wanted: list[str]) -> set[str]:
    """All packages that these requirements bring on this interpreter."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    todo = [Requirement(text) for text in wanted]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        mark = (name, tuple(sorted(one.extras)))
        if mark in seen or name.startswith(("nvidia-", "triton", "cuda-")):
            continue  # a build of torch brings its own accelerator libraries
        seen.add(mark)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # the caller sees that it is not pinned
        deeper = [Requirement(text) for text in requires]
        extras = [*one.extras, ""]
        todo += [r for r in deeper if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    return {name for name, _ in seen}


def test_every_package_is_pinned_once_in_the_part_that_needs_it() -> None:
    render, tests = ({canonicalize_name(name) for name in part} for part in pins())
    needed = closure([*PROJECT["dependencies"], "setuptools"])
    assert needed == render
    assert closure(PROJECT["optional-dependencies"]["dev"]) - needed == tests


def test_the_pins_satisfy_the_ranges() -> None:
    pinned = {canonicalize_name(name): version for part in pins() for name, version in part.items()}
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), text


def test_constraints_name_versions_and_no_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    bad = [line for line in lines if line and not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert bad == []
    assert "torch==2.13.0" in lines
    assert not any(line.startswith("opencv-python=") for line in lines), "it needs a display's libraries; the headless one does not"


@pytest.mark.parametrize("arguments", [["--help"], ["render", "--help"]])
def test_help_comes_without_the_heavy_libraries(arguments: list[str]) -> None:
    code = f"""
import sys
from renderfarm.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print(sorted({{"torch", "ray", "diffusers", "transformers", "cv2", "onnxruntime"}} & set(sys.modules)), file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "[]"
