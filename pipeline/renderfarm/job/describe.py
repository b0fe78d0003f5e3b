"""The job file's reference, made from the settings themselves, so that it cannot lag behind them."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from renderfarm.job.load import section_of
from renderfarm.job.settings import JobSettings

PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping", type(None): "none"}
BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}", "multiple_of": "in steps of {}"}
BETWEEN: dict[Any, str] = {dict: ".NAME.", tuple: "[]."}


def describe() -> str:
    """Every field as `key.path  type  default  meaning`, a Markdown table."""
    rows = [f"| `{path}` | {kind} | {default} | {meaning} |" for path, kind, default, meaning in fields(JobSettings)]
    return "\n".join(["| field | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(path, type, default, meaning) of every field below `model`, depth first."""
    for name, info in model.model_fields.items():
        section = section_of(info.annotation)
        if section is None:
            yield prefix + name, type_in_words(info.annotation, info.metadata), _default(info), info.description or ""
        else:
            yield from fields(section, prefix + name + BETWEEN.get(get_origin(info.annotation), "."))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a job file, for editors."""
    return JobSettings.model_json_schema()


def type_in_words(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """A field's type as a person says it: "whole number from 1 to 100", "`png`, `jpeg` or `webp`", "list of text"."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_in_words(inside[0], [limit for field in inside[1:] for limit in getattr(field, "metadata", [field])])
    if origin is Literal:
        *most, last = (f"`{choice}`" for choice in inside)
        return f"{', '.join(most)} or {last}" if most else last
    if origin in (Union, types.UnionType):
        return " or ".join(type_in_words(one, limits) for one in reversed(inside))
    if origin is tuple:
        return f"list of {type_in_words(inside[0])}"
    plain = PLAIN[origin or annotation]
    bounds = (f" {words.format(getattr(limit, name))}" for limit in limits for name, words in BOUNDS.items() if hasattr(limit, name))
    return plain + ("".join(bounds) if annotation in (int, float) else "")


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined and info.default_factory is None:
        return "required"
    value = info.get_default(call_default_factory=True)
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"
