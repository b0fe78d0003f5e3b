"""Job file → settings: YAML, `--set` overrides, paths relative to the job file, one message that names every mistake."""

from __future__ import annotations

import copy
import difflib
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from renderfarm.errors import JobError
from renderfarm.job.checks import ChecksSettings
from renderfarm.job.settings import JobSettings
from renderfarm.job.variables import NO_NAME

JOB_BYTES_MAX = 1 << 20
MERGE_TAG = "tag:yaml.org,2002:merge"


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: the first would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE_TAG:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def load_job(
    path: Path,
    overrides: Sequence[str] = (),
    changes: Mapping[str, object] | None = None,
    *,
    manifest: str | None = None,
    output: str | None = None,
) -> JobSettings:
    """Read a job file; `overrides` are `key.path=value` with YAML values, `changes` values by `key.path`.

    Raises: JobError naming every mistake.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise JobError("no such job file", str(path), "check the path; jobs/mockups.yaml is an example") from error
    except OSError as error:
        raise JobError(f"cannot be read: {error.strerror}", str(path), "name a YAML file that you may read") from error
    if len(data) > JOB_BYTES_MAX:
        raise JobError("larger than a job file can be", str(path), "name the job's YAML file, not its manifest")
    raw = _parse(data, str(path))
    for override in overrides:
        _override(raw, override)
    for name, value in (changes or {}).items():
        _set(raw, name, os.fspath(value) if isinstance(value, os.PathLike) else copy.deepcopy(value))
    if manifest is not None:
        raw["manifest"] = str(Path(manifest).absolute()) if "://" not in manifest else manifest
    if output is not None:
        _place_output(raw, str(Path(output).absolute()) if "://" not in output else output)
    _add_words(raw, path.absolute().parent)
    try:
        settings = JobSettings.model_validate(raw)
    except ValidationError as error:
        raise _mistakes(error, str(path)) from None
    return _anchored(settings, path.absolute().parent)


def _add_words(raw: dict[str, Any], folder: Path) -> None:
    """The words of `forbidden_words_file` beside those of the job, so that the resolved job says them all. Raises: JobError."""
    named, words = raw.get("forbidden_words_file"), raw.get("forbidden_words") or []
    if not isinstance(named, str) or not isinstance(words, list):
        return  # the validation says what is wrong
    path = _place(named, folder)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise JobError(what, f"forbidden_words_file {path}", "name a UTF-8 text file, one word or phrase a line") from error
    raw["forbidden_words"] = [*words, *(word for line in lines if (word := line.partition("#")[0].strip()))]


def load_checks(recorded: Mapping[str, Any], overrides: Sequence[str], where: str) -> ChecksSettings:
    """The checks of a job that was written before, with `checks.…=value` overrides. Raises: JobError naming every mistake."""
    raw: dict[str, Any] = {"checks": copy.deepcopy(dict(recorded))}
    if isinstance(judge := raw["checks"].get("judge"), dict):  # nobody is asked again, and earlier versions took anything there
        raw["checks"]["judge"] = {name: value for name, value in judge.items() if name not in ("key_env", "key_variable")}
    for override in overrides:
        if not override.strip().startswith("checks."):
            raise JobError(f"not a setting of the checks: {override!r}", "--set", "write --set checks.text.min_score=.9")
        _override(raw, override)
    try:
        return ChecksSettings.model_validate(raw["checks"])
    except ValidationError as error:
        raise _mistakes(error, where, "checks") from None


def _mistakes(error: ValidationError, where: str, *section: str) -> JobError:
    lines = [_explain({**item, "loc": (*section, *item["loc"])}) for item in error.errors()]
    return JobError(f"{len(lines)} mistake(s)", where, "`renderfarm job schema` prints every field", lines)


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        raw = yaml.load(data, Loader=_StrictLoader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date such as 2026-13-45
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise JobError(f"not valid YAML: {getattr(error, 'problem', None) or error}", place, "mend the syntax there") from None
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise JobError("not a mapping of settings", where, "begin with `name: …`, `manifest: …`, `output: …`")
    return raw


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply one `key.path=value`."""
    path, sign, text = override.partition("=")
    if not sign:
        raise JobError(f"not an override: {override!r}", "--set", "write --set key.path=value, for example checks.attempts=5")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise JobError("the value is not valid YAML", f"--set {path}", "quote it") from error
    _set(raw, path, value)


def _set(raw: dict[str, Any], path: str, value: object) -> None:
    """Set one field; missing sections are made, so that an unknown one is reported with its nearest name."""
    keys = path.strip().split(".")
    if not all(keys):
        raise JobError(f"not a field of a job: {path!r}", "--set", "name its sections and itself, for example checks.attempts")
    if keys[0] == "output" and len(keys) > 1:
        _place_output(raw, None)
    place = raw
    for key in keys[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise JobError(f"{key} is not a section", f"--set {path}", "name a field inside a section")
        place = inner
    for old, new, _ in getattr(_section_at(keys[:-1]), "respelled", ()):
        if keys[-1] in (old, new):  # the other spelling says what this one overrides
            place.pop(old, None)
            place.pop(new, None)
    place[keys[-1]] = value


def _place_output(raw: dict[str, Any], to: str | None) -> None:
    """Write `output` in its long form, and name another place if one is given."""
    output = raw.get("output")
    if not isinstance(output, dict):
        output = {"to": output} if output is not None else {}
        raw["output"] = output
    if to is not None:
        output["to"] = to


def _explain(item: Mapping[str, Any]) -> str:
    """One mistake as `place: what; what to do`."""
    location = [str(part) for part in item["loc"]]
    place = ".".join(location)
    if item["type"] == "extra_forbidden":
        known = list(_section_at(location[:-1]).model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"{place}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}")
    if item["type"] == "missing":
        return f"{place}: missing; add it"
    given = item.get("input")
    # What stands where a variable's name or a section should, and an address that others must not post to, may be a secret.
    secret = item["type"] in (NO_NAME, "model_type", "dict_type") or "://" in str(given)
    shown = f", given {given!r}" if not secret and isinstance(given, str | int | float | bool) and len(repr(given)) <= 80 else ""
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{place}: {message[0].lower()}{message[1:]}{shown}"


def _section_at(path: Sequence[str]) -> type[BaseModel]:
    """The section at `path`, as far as it can be followed."""
    model: type[BaseModel] = JobSettings
    for part in path:
        inner = model.model_fields.get(part)
        found = section_of(inner.annotation) if inner else None
        if found is None:
            break
        model = found
    return model


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The settings class inside an annotation, looking through unions, mappings and lists; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, dict, tuple):
        return next((found for found in map(section_of, get_args(annotation)) if found), None)
    return None


def _anchored(settings: JobSettings, folder: Path) -> JobSettings:
    """Relative paths made absolute against the job file's folder; URIs, Hub ids and bare names stay."""

    def place(path: str) -> str:
        return _place(path, folder)

    def weights(name: str) -> str:
        return place(name) if name.startswith((".", "/", "~")) or name.endswith(".safetensors") else name

    model = settings.model
    adapters = {name: a.model_copy(update={"path": place(a.path)}) for name, a in model.adapters.items()}
    controlnet = model.controlnet and model.controlnet.model_copy(update={"weights": weights(model.controlnet.weights)})
    return settings.model_copy(
        update={
            "manifest": place(settings.manifest),
            "output": settings.output.model_copy(update={"to": place(settings.output.to)}),
            "keys": place(settings.keys) if settings.keys else None,
            "forbidden_words_file": place(settings.forbidden_words_file) if settings.forbidden_words_file else None,
            "model": model.model_copy(
                update={
                    "weights": weights(model.weights),
                    "config": place(model.config) if model.config else None,
                    "adapters": adapters,
                    "controlnet": controlnet,
                }
            ),
            "inputs": settings.inputs.model_copy(update={"allow": tuple(place(a) for a in settings.inputs.allow)}),
        }
    )


def _place(path: str, folder: Path) -> str:
    """A path made absolute against a folder; a URI stays. Raises: JobError."""
    try:
        return path if "://" in path else str((folder / Path(path).expanduser()).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links, a user that does not exist
        raise JobError(f"not a usable path: {error}", repr(path), "name a file or folder, or an s3:// URI") from error
