"""Text: what is wanted, how words are compared, and one reading of pictures drawn here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from renderfarm.checks.reader import LetterReader, model_of, models_folder
from renderfarm.checks.text import TextCheck, explain
from renderfarm.checks.wanted import expected_text
from renderfarm.checks.words import Line, compare, distance, words
from renderfarm.job.checks import TextSettings
from renderfarm.schema import Box, PromptRow


@pytest.mark.parametrize(
    ("text", "prompt", "wanted"),
    [
        ("OPEN", "a sign 'CLOSED'", "OPEN"),
        ("", "a sign 'CLOSED'", ""),
        (" No text. ", "a mug", ""),
        (None, "a sign 'A' and 'B'", "A B"),
        (None, "a mug, no text", ""),
        (None, "a mug without any lettering", ""),
        (None, "eine Tasse ohne Text", ""),
        (None, "a sign reading 'SALE', no other text", "SALE"),
        (None, "a context without texture", None),
        (None, "a red mug", None),
        ("n/a", "a sign 'OPEN'", ""),
        (None, 'a poster for the film "Jaws"', None),
    ],
)
def test_the_row_then_the_prompt_say_what_is_wanted(text: str | None, prompt: str, wanted: str | None) -> None:
    assert expected_text(PromptRow("r", prompt, text=text)) == wanted


def _lines(*texts: str | tuple[str, float, float]) -> list[Line]:
    full = [(t, 0.99, 40.0) if isinstance(t, str) else t for t in texts]
    return [Line(text, sure, Box(0, 50 * k, 100, 50 * k + 40), height) for k, (text, sure, height) in enumerate(full)]


@pytest.mark.parametrize(
    ("expected", "lines"),
    [
        ("Welcome to Central Park", ["Welcome.to", "Central", "Park"]),
        ("QUANTUM LEAP: BEYOND THE VOID", ["QUANTUMLEAP", "BEYONDTHEVOID"]),
        ("OPEN", ["O", "P", "E", "N"]),
        ("Sunset", ["SUN", "SET"]),
        ("GRAND OPENING SALE", ["SALE", "GRAND OPENING"]),
        ("Crème brûlée", ["CREME BRULEE"]),
        ("Score: 1,250,300", ["SCORE 1250300"]),
        ("Mama's Kitchen & Bakery", ["Mamas", "Kitchen and Bakery"]),
        ("50% OFF", ["50%OFF"]),
        ("東京駅 Tokyo", ["東京駅", "TOKYO"]),
        ("Illinois 10", ["lllinois", "1O"]),
        ("SCOREBOARD 2-1", ["SCOREBOARD", "2-1", ("EMIRATES FLY", 0.75, 8.0), ("北", 0.98, 40.0)]),
    ],
)
def test_layout_case_accents_and_look_alikes_do_not_count(expected: str, lines: list[str]) -> None:
    found = compare(expected, _lines(*lines))
    assert found.score >= TextSettings().min_score and not found.misspelt and not found.missing


@pytest.mark.parametrize(
    ("expected", "lines", "reason"),
    [
        ("OPEN", ["OPFN"], "the sign reads OPFN, expected OPEN"),
        ("SALE", ["SAIE"], "the sign reads SAIE, expected SALE"),
        ("Park", ["PARK PARK"], "PARK appears again"),
        ("Welcome to Central Park", ["WELCOME TO", "CENTRAL PARK PARK"], "PARK appears again"),
        ("BAKERY", ["BAKARY"], "the sign reads BAKARY, expected BAKERY"),
        ("FRESH BREAD", ["FRESH"], "BREAD missing"),
        ("FRESH BREAD", ["FRESH BREAD", "GLORP WEX"], "unexpected text GLORP, WEX"),
        ("FRESH BREAD", ["FRESH BREAD", "BAKARY"], "unexpected text BAKARY"),
        (
            "one two three four five six seven eight nine ten",
            ["one two three four five six seven eight nine tem"],
            "the sign reads tem, expected ten",
        ),
        ("OPEN ALL DAY LONG", [], "no legible text, expected OPEN ALL DAY LONG"),
        ("GRAND OPENING TODAY ONLY", ["GRAND"], "OPENING, TODAY, ONLY missing"),
    ],
)
def test_faults_cost_the_acceptance_and_are_named(expected: str, lines: list[str], reason: str) -> None:
    read = _lines(*lines)
    found = compare(expected, read, "a sign of a bakery")
    assert found.score < TextSettings().min_score
    assert explain(found, expected, "the sign", bool(read)) == reason


def test_words_and_distances() -> None:
    assert [w.shown for w in words("Coca-Cola's 2-1, 5.27 EUR_x 東京")] == ["Coca", "Colas", "2", "1", "527", "EUR", "x", "東", "京"]
    assert distance("hello", "HELL0") == 0 and distance("SALE", "SAIE") == 1 and distance("Sale", "SAIE") == 1 and distance("a", "") == 1


@pytest.fixture(scope="module")
def reader() -> LetterReader:
    return LetterReader()


def _sign(text: str, side: int = 384) -> np.ndarray:
    """A light board with dark letters, uint8 (side, side, 3)."""
    board = Image.new("RGB", (side, side), (225, 215, 190))
    font = ImageFont.load_default(size=side / 10)
    ImageDraw.Draw(board).text((side / 2, side / 2), text, fill=(30, 20, 20), font=font, anchor="mm")
    return np.asarray(board)


def _judge(reader: LetterReader, shown: str, prompt: str, text: str | None = None, **settings: object) -> tuple[str, str, int]:
    picture = _sign(shown)
    verdict = TextCheck(TextSettings.model_validate(settings), reader).check(picture, PromptRow("r", prompt, text=text))
    return verdict.outcome, verdict.reason, len(verdict.boxes)


def test_a_drawn_sign_is_read_and_judged(reader: LetterReader) -> None:
    assert _judge(reader, "FRESH COFFEE", "a sign 'FRESH COFFEE'") == ("accepted", "reads FRESH COFFEE", 0)
    assert _judge(reader, "FRESH COFFFE", "a sign 'FRESH COFFEE'") == ("rejected", "the sign reads COFFFE, expected COFFEE", 1)
    assert _judge(reader, "FRESH COFFEE", "a mug", "") == ("rejected", "unwanted text: FRESH COFFEE", 1)
    assert _judge(reader, "FRESH COFFEE", "a mug", unstated="flag")[0] == "flagged"
    assert _judge(reader, "FRESH COFFEE", "a mug", unstated="reject")[0] == "rejected"
    assert _judge(reader, "FRESH COFFEE", 'a poster for the film "Fresh Coffee"', unstated="reject")[0] == "flagged"
    assert _judge(reader, "FRESH COFFFE", "a sign 'FRESH COFFEE'", on_fail="flag")[0] == "flagged"


class Told(LetterReader):
    """A reader that is told what it reads, at each side."""

    def __init__(self, looks: dict[int, list[tuple[str, float]]]) -> None:
        super().__init__()
        self.looks = looks

    def look(self, image: Image.Image, side: int, expected: str) -> list[Line]:  # type: ignore[override]
        return [Line(text, sure, Box(0, 40 * at, 100, 40 * at + 30), 30) for at, (text, sure) in enumerate(self.looks[side])]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ([("Helllo", 0.99)], [("Hello", 0.99)], "rejected"),  # a letter too many is there if one look saw it
        ([("Helo", 0.99)], [("Helllo", 0.99)], "rejected"),
        ([("Helo", 0.99)], [("Hello", 0.99)], "accepted"),  # a letter that comes twice is easily lost
        ([("Hcllo", 0.99)], [("Hello", 0.99)], "accepted"),
        ([("Hcllo", 0.99)], [("Hcllo", 0.99)], "rejected"),
        ([("Hcllo", 0.8)], [("Hcllo", 0.8)], "flagged"),  # curved, script, worn: the reader is not sure
        ([("Hcllo", 0.8)], [("Heello", 0.8)], "rejected"),
        ([("Hcclo", 0.8)], [("Hcclo", 0.8)], "rejected"),  # malformed: more than a slip
        ([], [], "rejected"),
    ],
)
def test_two_looks_at_one_word(first: list[tuple[str, float]], second: list[tuple[str, float]], outcome: str) -> None:
    verdict = TextCheck(TextSettings(), Told({512: first, 640: second})).check(_sign(""), PromptRow("r", "a sign", text="Hello"))
    assert verdict.outcome == outcome
    if outcome == "flagged":
        assert (
            verdict.reason == "perhaps the sign reads Hcllo, expected Hello"
            and verdict.score is not None
            and TextSettings().min_score <= verdict.score < 0.91
        )


@pytest.mark.parametrize(
    ("text", "lines", "outcome"),
    [
        ("FRESH BREAD", ["FRESH BREAD", "FRESH BREAD"], "flagged"),  # on two shirts
        ("FRESH BREAD", ["FRESH", "BREAD", "FRESH", "BREAD"], "flagged"),
        ("CITY PARK", ["CITY PARK PARK"], "rejected"),
        ("CITY PARK", ["CITY PARK", "PARK"], "rejected"),
        ("NO ENTRY", ["ENTRY"], "rejected"),
    ],
)
def test_wanted_words_that_stand_elsewhere_again_are_flagged(text: str, lines: list[str], outcome: str) -> None:
    told = [(line, 0.99) for line in lines]
    assert TextCheck(TextSettings(), Told({512: told, 640: told})).check(_sign(""), PromptRow("r", "a sign", text=text)).outcome == outcome


def test_what_cannot_be_judged_is_not_run_and_says_why(reader: LetterReader) -> None:
    assert _judge(reader, "OPEN", "a mug") == ("not_run", "the row neither asks for text nor forbids it", 0)
    assert _judge(reader, "OPEN", "a mug", "?!")[1] == "the wanted text '?!' has no letter or digit to read"


@pytest.mark.parametrize(
    ("text", "scripts"),
    [("Открыто", "Cyrillic"), ("פתוח", "Hebrew"), ("مفتوح", "Arabic"), ("เปิด", "Thai"), ("खुला", "Devanagari"), ("Ανοιχτό", "Greek")],
)
def test_letters_that_no_reader_here_knows_are_flagged_and_not_judged(reader: LetterReader, text: str, scripts: str) -> None:
    outcome, reason, _ = _judge(reader, "OPEN", "a mug", text)
    assert (outcome, reason) == ("flagged", f"{text!r} was not checked: no installed text reader reads {scripts}; look at it")
    assert (
        _judge(reader, "OPEN", "a mug", "Tiếng Việt")[1]
        == "'Tiếng Việt' was not checked: the text reader does not know all of its letters; look at it"
    )


def test_a_model_of_a_script_on_disk_is_used(tmp_path: Path) -> None:
    assert model_of("Greek", tmp_path) is None
    # The wheel's own recogniser knows the Greek letters of formulas: under the name of a Greek one it stands in for it.
    shutil.copy(models_folder() / "PP-OCRv6_rec_small.onnx", tmp_path / "el_PP-OCRv5_rec_mobile.onnx")
    greek = LetterReader(tmp_path)
    assert greek.knows("ΩΜΕΓΑ") and not greek.knows("Открыто") and not greek.knows("Открыто ΩΜΕΓΑ")
    picture = _sign("OPEN")
    assert [line.text for line in greek.read(picture, expected="ΩΜΕΓΑ")] == [line.text for line in greek.read(picture)]
    verdict = TextCheck(TextSettings(), greek).check(picture, PromptRow("r", "a mug", text="ΩΜΕΓΑ"))
    assert verdict.outcome == "rejected"


def test_small_grey_and_odd_pictures_are_read_without_a_crash(reader: LetterReader) -> None:
    check = TextCheck(TextSettings(), reader)
    for shape in ((16, 16, 3), (20, 900, 3), (900, 20, 3), (1, 1, 3)):
        verdict = check.check(np.full(shape, 127, np.uint8), PromptRow("r", "a sign", text="OPEN"))
        assert (verdict.outcome, verdict.reason) == ("rejected", "no legible text, expected OPEN")
    small = _sign("OPEN", 128)
    assert check.check(small, PromptRow("r", "a sign", text="OPEN")).outcome == "accepted"
