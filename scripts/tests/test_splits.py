"""Sets of labelled pictures: splits that share a source and family are refused, pictures are brought by git, figures have intervals."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from renderfarm.checks.base import Image
from renderfarm.schema import PromptRow, Verdict
from scripts.bench import splits

COMMIT = "0" * 40


def _write(folder: Path, *lines: str) -> Path:
    (folder / "spots.csv").write_text("\n".join([",".join(splits.COLUMNS), *lines]) + "\n", encoding="utf-8")
    return folder


def _csv(path: str, split: str = "held", family: str = "FLUX", label: str = "right", commit: str = COMMIT, box: str = "") -> str:
    return f"owner/name,{commit},{path},{split},{family},{label},{box},,,"


@pytest.mark.parametrize("path", sorted(splits.FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_the_sets_of_the_project_share_no_source_and_family(path: Path) -> None:
    assert {line.split for line in splits.read(path.stem)} >= {"held"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([_csv("a.png", "held"), _csv("b.png", "tuned")], "owner/name, FLUX: in the splits held and tuned"),
        ([_csv("a.png", "held", "FLUX"), _csv("a.png", "chosen", "SDXL")], "picture a.png: in the splits chosen and held"),
        ([_csv("a.png", "test")], "line 2: split 'test'"),
        ([_csv("a.png", label="odd")], "label 'odd' is not known"),
        ([_csv("../a.png")], "a path inside the repository"),
        ([_csv("a.png", commit="main")], "a whole commit"),
        ([_csv("a.png", box="1 2 3")], "a box is four numbers"),
    ],
)
def test_a_set_that_nothing_can_be_measured_on_is_refused(tmp_path: Path, lines: list[str], says: str) -> None:
    with pytest.raises(splits.SetsFault, match=says):
        splits.read("spots", _write(tmp_path, *lines))


def test_one_source_may_hold_two_families_in_two_splits(tmp_path: Path) -> None:
    assert len(splits.read("spots", _write(tmp_path, _csv("a.png", "held", "FLUX"), _csv("b.png", "tuned", "SDXL")))) == 2


class Spots:
    """Flags pictures with a white pixel."""

    name, cost = "spots", 1

    def prepare(self) -> None:
        """Nothing."""

    def check(self, image: Image, row: PromptRow) -> Verdict:
        return Verdict("spots", "flagged" if image.max() > 200 else "accepted")


def test_pictures_are_brought_by_git_and_judged_once_each(tmp_path: Path) -> None:
    clone = tmp_path / "clones" / "owner+name"
    clone.mkdir(parents=True)
    for name, grey in (("a.png", 0), ("b.png", 255), ("c.png", 255)):
        PillowImage.fromarray(np.full((16, 16, 3), grey, np.uint8)).save(clone / name)
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "pictures"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    labels = [("a.png", "good", "1 2 3 4"), ("b.png", "good", ""), ("c.png", "good", ""), ("c.png", "malformed", "0 0 9 9")]
    lines = splits.read("spots", _write(tmp_path, *(_csv(path, label=label, commit=commit, box=box) for path, label, box in labels)))
    with pytest.raises(splits.SetsFault, match="add --bring"):
        splits.measure(Spots(), lines, "held", tmp_path / "pictures")
    assert splits.bring(lines, tmp_path / "pictures", tmp_path / "clones") == 3
    assert splits.bring(lines, tmp_path / "pictures", tmp_path / "clones") == 0
    row = splits.measure(Spots(), lines, "held", tmp_path / "pictures")
    assert (row["n"], row["recall"], row["refused"]) == (3, "1 of 1 1.000 [0.207, 1.000]", "0 of 2 0.000 [0.000, 0.658]")
    assert row["flagged"].startswith("1 of 2 0.500")
    with pytest.raises(splits.SetsFault, match="git show"):
        splits.bring(splits.read("spots", _write(tmp_path, _csv("d.png", commit=commit))), tmp_path / "pictures", tmp_path / "clones")
