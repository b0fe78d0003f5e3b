"""Scripts and tests do not import each other, nor by ways around an import; they may start each other as processes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAYS_AROUND = {"sys.path", "importlib.import_module", "importlib.util.spec_from_file_location", "runpy.run_path", "runpy.run_module"}


def used(source: str) -> Iterator[str]:
    """Every module that is imported, and every dotted name that is read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


@pytest.mark.parametrize(("here", "there"), [("tests", "scripts"), ("scripts", "tests")])
def test_neither_imports_the_other(here: str, there: str) -> None:
    allowed = {"sys.path"} if here == "scripts" else set()  # a script is started by its path, and finds its neighbours so
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / here).rglob("*.py")
        for name in set(used(path.read_text("utf-8")))
        if name.split(".")[0] == there or name in WAYS_AROUND - allowed
    ]
    assert found == []
