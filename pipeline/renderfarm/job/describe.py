"""The job file's reference, made from the settings themselves, so that it cannot lag behind them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from renderfarm.job.load import section_of
from renderfarm.job.settings import JobSettings


def describe() -> str:
    """Every field as `key.path  type  default  meaning`, a Markdown table."""
    rows = [f"| `{path}` | {kind} | {default} | {meaning} |" for path, kind, default, meaning in fields(JobSettings)]
    return "\n".join(["| field | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(path, type, default, meaning) of every field below `model`, depth first."""
    for name, info in model.model_fields.items():
        section = section_of(info.annotation)
        if section is None:
            yield prefix + name, _kind(info), _default(info), info.description or ""
        else:
            inner = ".NAME." if "dict" in str(info.annotation) else "."
            yield from fields(section, f"{prefix}{name}{inner}")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a job file, for editors."""
    return JobSettings.model_json_schema()


def _kind(info: FieldInfo) -> str:
    text = getattr(info.annotation, "__name__", None) if not getattr(info.annotation, "__args__", None) else str(info.annotation)
    return str(text or info.annotation).replace("typing.", "").replace("Literal", "").replace(" | ", " or ").replace("NoneType", "none")


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined and info.default_factory is None:
        return "required"
    value = info.get_default(call_default_factory=True)
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"
