"""`audit --since`: a checkpoint of another log is the auditor's mistake, and is said before any picture is read."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm.audit.audit import audit
from renderfarm.errors import UserError
from renderfarm.log import parts
from renderfarm.notes import checkpoint as notes
from renderfarm.notes.checkpoint import Signer
from renderfarm.output import CHECKPOINT, PARTS, part_key
from renderfarm.storage import LocalStorage
from tests import outputs
from tests.outputs import Output

STRANGER = Signer.of("stranger/1", Ed25519PrivateKey.from_private_bytes(bytes([3] * 32)))


class Counting(LocalStorage):
    """A folder that counts what is read of pictures, and of parts."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, create=False)
        self.pictures = self.parts = 0

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        self.pictures += key.startswith(("images/", "review/"))
        self.parts += key.startswith(PARTS)
        return super().get(key, bytes_max)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Output, Output]:
    """An output, and one of another job under the same keys."""
    base = tmp_path_factory.mktemp("since")
    return outputs.build(base / "out", base / "keys"), outputs.build(base / "other", base / "keys", name="cups", first=200)


@pytest.mark.parametrize("how", [{}, {"quick": True}, {"sample": 2}])
@pytest.mark.parametrize("trusting", [True, False])
def test_a_foreign_checkpoint_is_refused_before_any_picture_is_read(
    both: tuple[Output, Output], how: dict[str, int], trusting: bool
) -> None:
    output, other = both
    storage = Counting(output.folder)
    with pytest.raises(UserError, match="the checkpoint is of renderfarm/cups, this log is renderfarm/mugs"):
        audit(storage, output.trust if trusting else None, since=other.storage.get(CHECKPOINT), **how)
    assert storage.pictures == 0 and storage.parts <= 2, "the first and the last part say which log it is"


def test_one_that_no_trusted_key_signed_is_refused_before_anything_is_read(both: tuple[Output, Output]) -> None:
    output, _ = both
    storage = Counting(output.folder)
    head = parts.read_footer(output.storage.get(part_key(2)), 2).checkpoint
    forged = notes.sign(dataclasses.replace(head, signatures=()), STRANGER)
    with pytest.raises(UserError, match="not a checkpoint to compare with"):
        audit(storage, output.trust, since=forged.to_bytes())
    assert (storage.pictures, storage.parts) == (0, 0)


def test_it_is_refused_too_where_both_ends_of_the_log_are_damaged(both: tuple[Output, Output], tmp_path: Path) -> None:
    output, other = both
    folder = tmp_path / "out"
    shutil.copytree(output.folder, folder)
    for key in (part_key(0), part_key(4)):
        (folder / key).write_bytes(b"rubbish")
    for key in (CHECKPOINT, "job.json"):
        (folder / key).unlink()
    storage = Counting(folder)
    with pytest.raises(UserError, match="name its own"):
        audit(storage, output.trust, since=other.storage.get(CHECKPOINT))
    assert storage.pictures == 0


def test_its_own_reads_every_picture_and_one_of_a_longer_log_stays_a_finding(both: tuple[Output, Output], tmp_path: Path) -> None:
    output, _ = both
    newest = output.storage.get(CHECKPOINT)
    storage = Counting(output.folder)
    report = audit(storage, output.trust, since=newest)
    assert report.ok and storage.pictures == report.objects_read > 0
    folder = tmp_path / "cut"
    shutil.copytree(output.folder, folder)
    (folder / part_key(4)).unlink()
    (folder / CHECKPOINT).write_bytes(parts.read_footer((folder / part_key(3)).read_bytes(), 3).checkpoint.to_bytes())
    assert audit(Counting(folder), output.trust, since=newest).found["part-missing"] == 1
