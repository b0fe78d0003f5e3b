"""What holds of all tests and scripts: they do not import each other, patch nothing of ours, sleep in one place, and every test asserts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts/tests").rglob("*.py")])
WAYS_AROUND = {"sys.path", "importlib.import_module", "importlib.util.spec_from_file_location", "runpy.run_path", "runpy.run_module"}
FOREIGN = {
    "sys",
    "tempfile",
    "torch.backends.cudnn",
    "'huggingface_hub.constants.HF_HUB_OFFLINE'",
    "'huggingface_hub.constants.HF_HUB_CACHE'",
}
"""What tests may patch: settings of libraries that can be set in no other way."""
SLEEPERS = {"tests/waiting.py", "tests/fake_worker.py", "tests/sick_worker.py", "tests/integration/proxy.py"}
"""What waits for something real, or is slow on purpose."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def used(path: Path) -> Iterator[str]:
    """Every module that is imported, and every dotted name that is read."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call below a node, and the dotted name of what is called."""
    return ((ast.unparse(call.func), call) for call in ast.walk(node) if isinstance(call, ast.Call))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(("here", "there"), [("tests", "scripts"), ("scripts", "tests")])
def test_scripts_and_tests_do_not_import_each_other(here: str, there: str) -> None:
    """They may start each other as processes; a script is started by its path, and finds its neighbours by `sys.path`."""
    barred = WAYS_AROUND - ({"sys.path"} if here == "scripts" else set())
    paths = (ROOT / here).rglob("*.py")
    assert [(name_of(path), name) for path in paths for name in set(used(path)) if name.split(".")[0] == there or name in barred] == []


def test_nothing_of_ours_is_patched() -> None:
    patches = [
        (name_of(path), ast.unparse(call.args[0])) for path in TESTS for name, call in calls(tree(path)) if name == "monkeypatch.setattr"
    ]
    assert [patch for patch in patches if patch[1] not in FOREIGN] == []


def test_only_what_waits_for_something_real_sleeps() -> None:
    assert {name_of(path) for path in TESTS for name, _ in calls(tree(path)) if name == "time.sleep"} == SLEEPERS


def test_every_test_asserts() -> None:
    """By itself, or by a helper whose name says so."""

    def asserts(test: ast.AST) -> bool:
        names = [name for name, _ in calls(test)]
        return any(isinstance(node, ast.Assert) for node in ast.walk(test)) or any(
            name == "pytest.raises" or name.split(".")[-1].startswith("assert_") for name in names
        )

    functions = [(path, node) for path in TESTS for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    assert [(name_of(path), one.name) for path, one in functions if one.name.startswith("test_") and not asserts(one)] == []


def test_no_two_classes_of_the_package_share_a_name() -> None:
    """Whoever reads one must not take it for the other."""
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
