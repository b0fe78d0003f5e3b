"""The manifest's columns: their Arrow types, which other types are taken for them, and what to say of any other.

Only a widening that loses nothing is taken (int64 for int32, double for float, large or dictionary strings); values
that do not fit are faults of their row, found later. Nothing here reads a file.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from renderfarm.manifest.faults import Fault
from renderfarm.schema import MANIFEST_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

VERSION_KEY = "renderfarm.manifest.version"

TEXTS = ("id", "prompt", "negative_prompt", "text", "adapter", "init_image", "mask_image", "control_image")
WHOLES = ("seed", "width", "height", "steps", "images")
FRACTIONS = ("guidance", "strength")
COLUMNS = (
    "id", "prompt", "negative_prompt", "seed", "width", "height", "steps", "guidance", "images", "text", "objects",
    "adapter", "init_image", "mask_image", "strength", "tags", "control_image",
)  # fmt: skip
REQUIRED = ("id", "prompt")
LIST_OF_ADAPTERS = "adapters"
"""A column that may stand in the place of `adapter`: several as a list of texts, or in one text."""

_WANTED = {
    **dict.fromkeys(TEXTS, "string"),
    **dict.fromkeys(WHOLES, "int32"),
    "seed": "int64",
    **dict.fromkeys(FRACTIONS, "float"),
    "objects": "list<struct<class: string, count: int32>>",
    "tags": "map<string, string>",
    LIST_OF_ADAPTERS: "list<string>",
}


def arrow_schema() -> pa.Schema:
    """The Arrow schema that `build` writes; its metadata holds the manifest's version."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "float": pa.float32()}
    kinds[_WANTED["objects"]] = pa.list_(pa.struct([("class", pa.string()), ("count", pa.int32())]))
    kinds[_WANTED["tags"]] = pa.map_(pa.string(), pa.string())
    fields = [pa.field(name, kinds[_WANTED[name]], nullable=name not in REQUIRED) for name in COLUMNS]
    return pa.schema(fields, metadata={VERSION_KEY: str(MANIFEST_VERSION)})


def column_faults(schema: pa.Schema, where: str = "") -> list[Fault]:
    """What is wrong with a file as a whole: its version, and missing, unknown, doubled or mistyped columns.

    `where` is put before each fault; give the file's name when the manifest has several.
    """
    prefix = f"{where}: " if where else ""
    faults: list[tuple[str, str, str]] = []
    stated = (schema.metadata or {}).get(VERSION_KEY.encode())
    if stated is not None and stated != str(MANIFEST_VERSION).encode():
        version = stated.decode(errors="replace")
        what = f"made for version {version} of the manifest, and this program reads {MANIFEST_VERSION}"
        faults.append(("", what, "update renderfarm, or build the manifest again"))
    for name in REQUIRED:
        if name not in schema.names:
            faults.append((name, "this column is missing", f"add a column {name!r} of type string"))
    for name in sorted({name for name in schema.names if schema.names.count(name) > 1}):
        faults.append((name, "this column is there more than once", "keep one of them"))
    for field in schema:
        if field.name == LIST_OF_ADAPTERS and "adapter" in schema.names:
            faults.append((field.name, "this column and `adapter` say the same", "keep one of them"))
        elif field.name not in (*COLUMNS, LIST_OF_ADAPTERS):
            faults.append((field.name, "no such column", unknown_remedy(field.name, set(schema.names))))
        elif not _takes(field.name, field.type):
            what = f"the type is {field.type}, and {_WANTED[field.name]} is wanted"
            faults.append((field.name, what, _type_remedy(field.name, field.type)))
    return [Fault(None, None, column or None, f"{prefix}{what}", remedy) for column, what, remedy in faults]


def readable_columns(schema: pa.Schema) -> list[str]:
    """The columns of a file that can be read, whatever is wrong with the others."""
    known = (*COLUMNS, LIST_OF_ADAPTERS)
    return [f.name for f in schema if f.name in known and schema.names.count(f.name) == 1 and _takes(f.name, f.type)]


def nearest(name: str, known: tuple[str, ...] | frozenset[str]) -> str | None:
    """The known name that a person most likely meant, or None."""
    plain = {_plain(k): k for k in sorted(known) if _plain(k)[:1] == _plain(name)[:1]}
    hits = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.8)
    return plain[hits[0]] if hits else None


def unknown_remedy(name: str, present: set[str]) -> str:
    """What to do about a column that the manifest does not know; `present`: the columns that are there already."""
    if name.startswith("__index_level_"):
        return "pandas wrote its index: call to_parquet(..., index=False)"
    meant = nearest(name, COLUMNS)
    keep = f"keep it as a tag (tag.{name} in CSV or JSONL, or an entry of the map 'tags')"
    if meant and meant not in present:
        return f"rename it to {meant!r}, or {keep}"
    return f"`renderfarm manifest build` knows what other tools call columns; else {keep}, or remove it"


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _takes(name: str, kind: pa.DataType) -> bool:
    """Whether every value of `kind` can be read for this column, or is refused row by row for its range alone."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return name not in REQUIRED
    if name == LIST_OF_ADAPTERS and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return _is_text(kind.value_type)
    if name in TEXTS or name == LIST_OF_ADAPTERS:
        return _is_text(kind)
    if name in WHOLES:
        return bool(pa.types.is_integer(kind))
    if name in FRACTIONS:
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
    if name == "objects":
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
            return False
        inner = {f.name: f.type for f in kind.value_type}
        if set(inner) != {"class", "count"}:
            return False
        return _is_text(inner["class"]) and bool(pa.types.is_integer(inner["count"]))
    return bool(pa.types.is_map(kind)) and _is_text(kind.key_type) and _is_text(kind.item_type)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _type_remedy(name: str, kind: pa.DataType) -> str:
    import pyarrow as pa

    if name in WHOLES and pa.types.is_floating(kind):
        wide = "Int64" if name == "seed" else "Int32"
        return f"write whole numbers; pandas makes fractions of columns with gaps: use astype({wide!r})"
    if name in TEXTS and pa.types.is_integer(kind):
        return "write it as text, for example astype(str) in pandas"
    if name == "tags" and pa.types.is_struct(kind):
        return "write a map, not a struct; `renderfarm manifest build` makes one from tag.NAME columns"
    return f"write the column as {_WANTED[name]}, or let `renderfarm manifest build` make the file from CSV or JSONL"
