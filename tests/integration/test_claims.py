"""From the command line: what a picture's credential and XMP say about how it came about is so, for every way there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from renderfarm.credential import xmp_for
from renderfarm.log import reading
from renderfarm.pictures import xmp
from renderfarm.schema import Record
from renderfarm.storage import open_storage
from tests import rubric
from tests.integration.conftest import Farm
from tests.standins import control_of, folder_of

CHECKS = ("broken", "text", "duplicates", "copies", "counts", "hands")
WAYS = {"words": (), "start": ("init",), "masked": ("init", "mask"), "guided": ("control",), "all": ("init", "mask", "control")}
"""Row id → what goes in."""


def pictures(folder: Path) -> dict[str, str]:
    levels = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8)
    drawn = {
        "init": levels,
        "mask": np.repeat(np.array([[0, 255]], dtype=np.uint8), 64, axis=0).repeat(32, axis=1),
        "control": levels[::-1],
    }
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: str(folder / f"{name}.png") for name in drawn}


def test_credential_and_xmp_say_how_a_picture_came_about(farm: Farm) -> None:
    files = pictures(farm.folder)
    rows = [
        {"id": name, "prompt": "a red mug", **{f"{role}_image": files[role] if role in roles else None for role in files}}
        for name, roles in WAYS.items()
    ]
    farm.manifest(rows)
    path = farm.job(
        model={"weights": str(folder_of("sd")), "device": "cpu", "controlnet": {"weights": str(control_of("sd"))}},
        defaults={"width": 64, "height": 64, "steps": 2, "guidance": 4.0}, mark={"allow_unmarked": True},
        inputs={"allow": [str(farm.folder)]}, checks={name: {"enabled": False} for name in CHECKS},
    )  # fmt: skip
    farm.run("render", path)
    out = farm.folder / "out"
    made = {str(one.row_id): one for one in reading.records(open_storage(str(out))) if one.outcome == "accepted"}
    assert made.keys() == WAYS.keys()
    for name, roles in WAYS.items():
        check(out, made[name], roles)


def check(out: Path, record: Record, roles: tuple[str, ...]) -> None:
    data = (out / str(record.object_key)).read_bytes()
    store = rubric.store_of(data, str(record.media_type))
    assert rubric.faults(store) == []
    assertions = store["manifests"][0]["assertions"]
    drawn_over = "init" in roles
    source_type = xmp.EDITED if drawn_over else xmp.GENERATED
    actions = rubric.actions_of(store)
    assert [action["action"] for action in actions] == (["c2pa.opened", "c2pa.edited"] if drawn_over else ["c2pa.created"])
    assert actions[-1]["digitalSourceType"] == assertions["cawg.metadata"]["Iptc4xmpExt:DigitalSourceType"] == source_type
    packet = xmp.read(data)
    assert packet == xmp_for(record, assertions["cawg.metadata"]["photoshop:Credit"]) and f'"{source_type}"'.encode() in packet
    said = assertions["org.renderfarm.record"].get("inputs", [])
    assert said == [{"role": given.role, "sha256": given.digest} for given in record.inputs] and [one["role"] for one in said] == list(
        roles
    )
    relations = {item["dc:title"]: item["relationship"] for item in assertions.values() if "relationship" in item}
    assert relations == {f"input picture ({role})": "parentOf" if role == "init" else "inputTo" for role in roles}
    guides = sum(len(action.get("parameters", {}).get("ingredients", ())) for action in actions if action["action"] != "c2pa.opened")
    assert guides == len(set(roles) - {"init"}), "what guided it is named where it was drawn"
