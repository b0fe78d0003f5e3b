"""`check`, `watermark`, `keys` and `job`: single tools that need no output."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from renderfarm import keys, pictures, watermark
from renderfarm.checks.files import FileResult, Item, check_files, read_items
from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import KeysError, RenderfarmError, UserError
from renderfarm.job import describe, json_schema, load_checks
from renderfarm.manifest import wanted_objects
from renderfarm.watermark import MarkKey, Payload

MARK_KEY_VARIABLE = "RENDERFARM_MARK_KEY"
NO = 5
"""Exit code of an honest no."""
_KEY_A_LINE = "one key in hex digits a line; `renderfarm keys init` makes one"
_OTHER_FOLDER = "choose another folder for -o, or move that file away"


def check(args: argparse.Namespace) -> int:
    """The quality filters on pictures: 0 all pass, 5 one rejects, 2 one cannot be read."""
    logs.configure(quiet=True)
    if not args.images and args.source is None:
        raise UserError("no picture named", "check", "name pictures, or --from FILE.jsonl")
    try:
        objects = wanted_objects(args.objects) if args.objects is not None else ()
    except ValueError as error:
        raise UserError(str(error), "--objects", "as in a manifest: mug:2; box:1, or 2 mug, 1 box, or JSON") from None
    items: Iterator[Item] = iter([Item(str(path), args.prompt, args.text, objects) for path in args.images])
    if args.source is not None:
        items = iter([*items, *read_items(args.source)])
    code = 0
    for result in check_files(items, load_checks({}, args.overrides, "--set")):
        code = max(code, _show(result, args.json), key=(0, NO, UserError.exit_code).index)
    return code


def _show(result: FileResult, as_json: bool) -> int:
    rejected = any(verdict.outcome == "rejected" for verdict in result.verdicts)
    if as_json:
        say_json(asdict(result), flush=True)
    elif result.error:
        say(f"{result.path}: {result.error}", file=sys.stderr)
    else:
        say(f"{result.path}: {'rejected' if rejected else 'accepted'}")
        for verdict in result.verdicts:
            score = "" if verdict.score is None else f" {verdict.score:.3f} (threshold {verdict.threshold})"
            say(f"  {verdict.check:<12} {verdict.outcome:<9}{score}  {verdict.reason}")
    return UserError.exit_code if result.error else NO if rejected else 0


def _mark_keys(files: list[Path]) -> list[MarkKey]:
    """Keys from files (one in hex a line), else from the environment, else the user's own set. Raises: KeysError."""
    if files:
        return [key for file in files for key in _keys_of(file)]
    named = os.environ.get(MARK_KEY_VARIABLE)
    if named:
        return _keys_in(named, MARK_KEY_VARIABLE)
    trust = keys.load_default_trust()
    if trust is None or not trust.mark_keys:
        raise KeysError("no watermark key", "watermark", f"give --key-file, set {MARK_KEY_VARIABLE}, or `renderfarm keys init`")
    return list(trust.mark_keys)


def _keys_of(path: Path) -> list[MarkKey]:
    try:
        text = path.read_text("ascii")
    except (OSError, ValueError) as error:
        raise KeysError("the key file cannot be read as text", str(path), _KEY_A_LINE) from error
    return _keys_in(text, str(path))


def _keys_in(text: str, where: str) -> list[MarkKey]:
    """One key in hex a line, empty lines ignored. Raises: KeysError, naming the line and never what stands in it."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(MarkKey.from_hex(line))
            except KeysError as error:
                raise KeysError(error.what, f"{where}, line {number}", _KEY_A_LINE) from None
    if not found:
        raise KeysError("no watermark key in it", where, _KEY_A_LINE)
    return found


def watermark_embed(args: argparse.Namespace) -> int:
    """Mark pictures with one id; each that cannot be marked is one line, and exit 2."""
    logs.configure(quiet=True)
    key = _mark_keys([args.key_file] if args.key_file else [])[0]
    payload = Payload(1, args.record.lower())
    method = watermark.method(args.method, args.weights)
    places = _places(args.images, args.out)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder: {error.strerror}", str(args.out), "choose another place for -o") from error
    done = 0
    for path, out in places.items():
        try:
            picture = pictures.read(pictures.read_file(path), str(path), exact=True)
            marked = method.embed(picture.pixels[None], [payload], key)[0]
            _write_new(out, pictures.encode_like(picture, marked))
            done += 1
            say(out)
        except (RenderfarmError, OSError) as error:  # OSError: the marked picture cannot be written
            say(_one_line(path, error), file=sys.stderr)
    return 0 if done == len(places) else UserError.exit_code


def _places(sources: list[Path], folder: Path) -> dict[Path, Path]:
    """Where each marked picture goes, before anything is written. Raises: UserError where one would replace any file, or two meet."""
    places: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for source in sources:
        out = folder / f"{source.stem}.png"
        if out in taken:
            what = f"{taken[out]} and {source} would both be marked as this file; nothing was written"
            raise UserError(what, str(out), "mark pictures of one name in calls of their own, into different folders")
        if os.path.lexists(out):
            what = f"is there already, and {source} would be marked as it; nothing was written"
            raise UserError(what, str(out), _OTHER_FOLDER)
        places[source], taken[out] = out, source
    return places


def _write_new(out: Path, data: bytes, link: Callable[[Path, Path], None] = os.link) -> None:
    """The whole file or none, and never in the place of another. Raises: OSError, UserError where one appeared meanwhile."""
    temporary = out.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        try:
            link(temporary, out)
        except FileExistsError:
            raise
        except OSError:  # a file system without links: claim the name, then put the file in its place
            open(out, "xb").close()
            os.replace(temporary, out)
    except FileExistsError:
        raise UserError(f"{out} appeared meanwhile; it was left as it is", remedy=_OTHER_FOLDER) from None
    finally:
        temporary.unlink(missing_ok=True)


def _one_line(path: Path, error: Exception) -> str:
    """What is wrong with one picture of many: its path, the reason, the remedy."""
    text = f"{error.what} ({error.remedy})" if isinstance(error, UserError) and error.remedy else str(error)
    return f"{path}: {text}"


def watermark_read(args: argparse.Namespace) -> int:
    """Read marks: 0 all have one, 5 one has none, 2 one cannot be read."""
    logs.configure(quiet=True)
    mark_keys = _mark_keys(args.key_file)
    method = watermark.method(args.method, args.weights)
    code = 0
    for path in args.images:
        try:
            reading = method.read(pictures.decode(pictures.read_file(path), str(path)), mark_keys)
        except RenderfarmError as error:
            code = UserError.exit_code
            line = _one_line(path, error)
            say_json({"path": str(path), "error": line}, file=sys.stderr) if args.json else say(line, file=sys.stderr)
            continue
        if not reading.present and code == 0:
            code = NO
        if args.json:
            say_json({"path": str(path), **asdict(reading)})
        elif reading.payload is None:
            say(f"{path}: no mark under these keys")
        else:
            made = f"key {reading.key_id}" + (f", version {reading.version}" if reading.version else "")
            say(f"{path}: id {reading.payload.record}, {made}, false alarm at most {reading.false_alarm:.1e}")
    return code


def keys_init(args: argparse.Namespace) -> int:
    """Make a development key set."""
    logs.configure(quiet=True)
    made = keys.init(args.folder)
    say(f"development key set in {made.folder}; give {made.folder / keys.TRUST} to auditors, by a way they trust")
    return 0


def keys_person(args: argparse.Namespace) -> int:
    """Make a person's key."""
    logs.configure(quiet=True)
    private, public = keys.make_person(args.out, args.name)
    say(f"{private} signs statements (`renderfarm review … --key`): keep it private")
    say(f"copy {public} into the trust folders of the key set that signs the log, and of auditors")
    return 0


def job_schema(args: argparse.Namespace) -> int:
    """The job file's fields."""
    say_json(json_schema(), indent=1) if args.json else say(*describe().split("\n"))
    return 0
