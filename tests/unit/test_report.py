"""The report's data: what is grouped, counted, linked and escaped. The page itself is tested in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm.job.model import STARTER
from renderfarm.output import REPORT_INDEX
from renderfarm.report import Summary, write
from renderfarm.report.encode import href, plain, script_json
from renderfarm.report.page import page_html
from renderfarm.report.sheet import LINE, STATES, TAG_VALUES_MAX, Sheet, model_kind, shown_attempt, state_of
from renderfarm.report.spool import ImageRecords, Spool
from renderfarm.schema import RECORD_FIELDS, Box, ObjectCount, Record, Verdict
from renderfarm.storage import LocalStorage, segment

SUMMARY = Summary("mockups", planned=4, accepted=1, exhausted=1, failed=1, remaining=1, attempts_limit=2)
HOSTILE = "</script><script>globalThis.pwned=1</script><!-- & \u2028\u2029 {{ meta }}"
TEXT_REJECTED = Verdict("text", "rejected", "the sign reads OPFN, expected OPEN", 0.75, 0.9, (Box(1, 2, 30, 40),))


def attempt(image: str, number: int = 1, outcome: Any = "accepted", **fields: Any) -> Record:
    return Record(kind="attempt", image_id=image, row_id=fields.pop("row_id", image), index=0, attempt=number, outcome=outcome, **fields)


def lines_of(records: Iterable[Record], limit: int = 2) -> list[dict[str, Any]]:
    sheet = Sheet(limit)
    with Spool() as spool:
        spool.fill(records)
        return [dict(zip(LINE, sheet.line(image), strict=True)) for image in spool.images()]


def chunks_of(folder: Path, kind: str) -> list[Any]:
    """The payloads of the chunks, by the same call that a browser makes."""
    payloads = []
    for file in sorted(folder.glob(f"report/{kind}-*.js")):
        match = re.fullmatch(r"renderfarm\.chunk\((.*)\);\n", file.read_text("ascii"))
        assert match
        name, number, _, payload = json.loads(f"[{match[1]}]")
        assert (name, number) == (kind, len(payloads))
        payloads.append(payload)
    return payloads


def records_in(folder: Path) -> list[dict[str, Any]]:
    """Every record of the report, put together again from the differences."""
    found = []
    for chunk in chunks_of(folder, "data"):
        for image in chunk["images"]:
            for item in image:
                full = {**chunk["base"], **item["r"]}
                found.append({name: value for name, value in full.items() if value is not None})
    return found


class Page(HTMLParser):
    """What a browser would find: the policy, scripts, styles, and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.policy = ""
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str]] = []
        self.meta = ""
        self._open: tuple[str, dict[str, str]] = ("", {})
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.attributes += found.items()
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]
        self._open = (tag, found)

    def handle_endtag(self, tag: str) -> None:
        self._open = ("", {})

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open
        if attributes.get("id") == "meta":
            self.meta += data
        elif tag in self.inline:
            self.inline[tag].append(data)


class TestPlain:
    def test_every_field_is_kept_but_what_is_not_set(self) -> None:
        record = attempt("ab", text="", objects=(ObjectCount("mug", 2),), tags=(("sku", "M-1"),), verdicts=(TEXT_REJECTED,))
        values = plain(record)
        assert values["text"] == "", "no text wanted is not the same as text from the prompt"
        assert values["objects"] == [["mug", 2]]
        assert values["tags"] == [["sku", "M-1"]]
        assert values["verdicts"][0]["boxes"] == [[1, 2, 30, 40]]
        unset = {name for name in RECORD_FIELDS if getattr(record, name) in (None, ())}
        assert values.keys() == set(RECORD_FIELDS) - unset

    def test_a_seed_beyond_what_javascript_holds_is_text(self) -> None:
        assert plain(attempt("a", seed=2**53 - 1))["seed"] == 2**53 - 1
        assert plain(attempt("a", seed=2**62 + 1))["seed"] == str(2**62 + 1)

    def test_scores_that_json_cannot_hold_are_text(self) -> None:
        verdicts = (Verdict("broken", "rejected", score=math.nan, threshold=math.inf),)
        assert plain(attempt("a", verdicts=verdicts))["verdicts"][0] == {
            "check": "broken", "outcome": "rejected", "reason": "", "score": "nan", "threshold": "inf",
        }  # fmt: skip


class TestScriptJson:
    @given(st.text())
    def test_any_text_comes_back_and_cannot_end_a_script(self, text: str) -> None:
        written = script_json([text])
        assert json.loads(written) == [text]
        assert written.isascii() and not set("<>&\u2028\u2029") & set(written)

    def test_a_script_end_is_escaped(self) -> None:
        assert script_json("</script>") == '"\\u003c/script\\u003e"'


class TestHref:
    def test_the_percent_sign_of_a_key_is_encoded_again(self) -> None:
        assert href("images/a%2Fb/0-0123.png") == "../images/a%252Fb/0-0123.png"

    @given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
    def test_the_link_of_any_row_id_leads_to_its_file_and_never_out(self, row_id: str) -> None:
        key = f"thumbs/{segment(row_id)}/0-1.webp"
        link = href(key)
        assert link is not None
        target = urlsplit(urljoin("file:///output/report/index.html", link))
        assert (target.query, target.fragment) == ("", "")
        assert unquote(target.path) == f"/output/{key}"

    @pytest.mark.parametrize(
        "key",
        [None, "", "images/../../etc/passwd", "images//x.png", "images/./x.png", "provenance/checkpoint", "/etc/passwd",
         "https://example.com/x.png", "javascript:alert(1)", "images/..\\x.png"],
    )  # fmt: skip
    def test_what_is_no_picture_of_this_output_gets_no_link(self, key: str | None) -> None:
        assert href(key) is None


class TestState:
    @pytest.mark.parametrize(
        ("outcomes", "state"),
        [
            (["accepted"], "accepted"),
            (["rejected", "accepted"], "accepted"),
            (["rejected"], "remaining"),
            (["rejected", "rejected"], "exhausted"),
            (["failed"], "failed"),
            (["rejected", "failed"], "failed"),
            (["failed", "rejected"], "remaining"),
            (["failed", "accepted"], "accepted"),
        ],
    )
    def test_state_follows_from_the_attempts(self, outcomes: list[str], state: str) -> None:
        assert state_of([{"outcome": outcome} for outcome in outcomes], attempts_limit=2) == state

    def test_the_accepted_attempt_stands_for_the_image_else_the_newest_with_a_picture(self) -> None:
        rejected, accepted = {"outcome": "rejected", "thumb_key": "thumbs/a"}, {"outcome": "accepted", "thumb_key": "thumbs/b"}
        assert shown_attempt([rejected, accepted, rejected]) is accepted
        failed = {"outcome": "failed"}
        assert shown_attempt([rejected, failed]) is rejected
        assert shown_attempt([failed]) is failed


class TestLines:
    def test_attempts_far_apart_in_the_log_are_one_image(self) -> None:
        first = attempt("a", 1, "rejected", verdicts=(TEXT_REJECTED,), thumb_key="thumbs/a/0-1.webp")
        others = [attempt(f"b{number}") for number in range(50)]
        second = attempt("a", 2, thumb_key="thumbs/a/0-2.webp")
        found = [line for line in lines_of([first, *others, second]) if line["image_id"] == "a"]
        assert len(found) == 1
        assert (found[0]["attempts"], found[0]["state"], found[0]["thumb"]) == (2, 0, "../thumbs/a/0-2.webp")
        assert found[0]["reasons"] == ["the sign reads OPFN, expected OPEN"]

    def test_lines_are_in_the_order_that_a_person_expects(self) -> None:
        ids = ["mug-10", "Mug-2", "box", "mug-1"]
        records = [replace(attempt(row), row_id=row) for row in ids]
        records.append(replace(attempt("second"), row_id="mug-1", index=1))
        assert [(line["row_id"], line["index"]) for line in lines_of(records)] == [
            ("box", 0), ("mug-1", 0), ("mug-1", 1), ("Mug-2", 0), ("mug-10", 0),
        ]  # fmt: skip

    def test_a_persons_word_replaces_what_the_checks_said_and_is_shown_with_the_name(self) -> None:
        bad = attempt("a", outcome="rejected", verdicts=(Verdict("text", "rejected", "OPEN missing"),), object_key="review/a/0-1-x.png")
        word = replace(bad, kind="review", outcome="accepted", verdicts=(Verdict("person", "accepted", "by Ada: fine"),), reviewer="Ada",
                       reason="fine", object_key="images/a/0-x.png", finished_us=7)  # fmt: skip
        back = replace(word, outcome="rejected", verdicts=(Verdict("person", "rejected", "by Bob"),), reviewer="Bob", reason=None,
                       object_key="review/a/0-1-x.png", finished_us=9)  # fmt: skip
        (line,) = lines_of([bad, word])
        assert (STATES[line["state"]], line["attempts"], line["reasons"]) == ("accepted", 1, ["accepted by Ada: fine"])
        (line,) = lines_of([bad, word, back], limit=1)
        assert (STATES[line["state"]], line["reasons"]) == ("exhausted", ["OPEN missing", "by Bob"])
        with Spool() as spool:
            spool.fill([bad, word, back, replace(word, image_id="unknown")])
            (image,) = spool.images()
        assert image.attempts[0]["reviews"] == [["accepted", "Ada", "fine", 7], ["rejected", "Bob", "", 9]]
        assert image.attempts[0]["object_key"] == "review/a/0-1-x.png"

    def test_superseded_images_come_last_and_reinstated_ones_do_not(self) -> None:
        log = [attempt("a"), attempt("b"), attempt("c")]
        log += [Record(kind="superseded", image_id=image) for image in ("a", "b", "never rendered")]
        log += [Record(kind="reinstated", image_id="b")]
        assert [(line["image_id"], line["superseded"]) for line in lines_of(log)] == [("b", 0), ("c", 0), ("a", 1)]

    def test_rows_that_were_skipped_as_invalid_each_get_a_line(self) -> None:
        bad = replace(attempt("", 1, "failed", reason="row 3, column prompt: empty"), image_id=None, row_id=None)
        found = lines_of([bad, bad, replace(bad, row_id="known")])
        assert [(line["row_id"], line["state"], line["reasons"]) for line in found] == [
            ("", 2, ["row 3, column prompt: empty"])] * 2 + [("known", 2, ["row 3, column prompt: empty"])]  # fmt: skip

    def test_filters_count_images_of_the_newest_plan_only(self) -> None:
        flag = Verdict("duplicates", "flagged", "much like b")
        log = [
            attempt("a", verdicts=(flag,), tags=(("campaign", "spring"),)),
            attempt("b", 1, "rejected", verdicts=(TEXT_REJECTED,), tags=(("campaign", "spring"),)),
            attempt("b", 2, "rejected", verdicts=(TEXT_REJECTED,), tags=(("campaign", "spring"),)),
            attempt("gone", tags=(("campaign", "autumn"),)),
            Record(kind="superseded", image_id="gone"),
        ]
        sheet = Sheet(attempts_limit=2)
        with Spool() as spool:
            spool.fill(log)
            lines = [sheet.line(image) for image in spool.images()]
        filters = sheet.filters()
        assert dict(filters["states"]) == {
            "accepted": 1, "exhausted": 1, "failed": 0, "remaining": 0, "flagged": 1, "superseded": 1,
        }  # fmt: skip
        assert filters["checks"] == [["duplicates", [0, 1, 0]], ["text", [1, 0, 0]]]
        assert filters["tags"] == [["campaign", [("spring", 2)]]]
        assert [line[LINE.index("marks")] for line in lines] == [[1], [3], []]

    def test_a_tag_with_too_many_values_is_left_to_the_search(self) -> None:
        sheet = Sheet(attempts_limit=1)
        for number in range(TAG_VALUES_MAX + 1):
            sheet.line(ImageRecords(({"outcome": "accepted", "tags": [["sku", str(number)]]},), superseded=False))
        assert sheet.filters()["tags"] == [["sku", None]]

    def test_the_first_plan_record_gives_way_to_the_newest(self) -> None:
        with Spool() as spool:
            spool.fill([Record(kind="plan", planned=1), attempt("a"), Record(kind="plan", planned=9)])
            assert spool.plan is not None and spool.plan["planned"] == 9


class TestModels:
    def test_starter_and_stand_in_are_called_what_they_are(self) -> None:
        assert model_kind({"weights": STARTER})[0] == "starter"
        assert model_kind({"weights": "starter (random stand-in)"})[0] == "stand-in"
        assert model_kind({"weights": "stabilityai/sdxl-turbo"}) == ("", "")

    def test_models_of_shown_pictures_are_counted(self) -> None:
        sheet = Sheet(attempts_limit=1)
        for weights in ("starter", "other", "other"):
            sheet.line(ImageRecords(({"outcome": "accepted", "weights": weights, "device": "cpu"},), superseded=False))
        assert [(model["weights"], model["images"], model["kind"]) for model in sheet.models()] == [
            ("other", 2, ""), ("starter", 1, "starter")]  # fmt: skip


class TestPage:
    def test_the_policy_allows_exactly_the_scripts_and_the_style_of_the_page(self) -> None:
        page = Page(page_html({"job": HOSTILE}))
        hashes = {
            tag: [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
            for tag, texts in page.inline.items()
        }
        rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"].split() == [*hashes["script"], "'strict-dynamic'"]
        assert rules["style-src"].split() == hashes["style"]
        assert "unsafe" not in page.policy and "http" not in page.policy
        assert json.loads(page.meta) == {"job": HOSTILE}

    def test_no_handler_no_inline_style_and_no_address_stands_in_the_page(self) -> None:
        attributes = Page(page_html({"job": HOSTILE})).attributes
        assert not [name for name, _ in attributes if name.startswith("on") or name in ("style", "src", "action")]
        assert [value[:19] for name, value in attributes if name == "href"] == ["data:image/svg+xml,"], "the icon"
        text = page_html({"job": "x"}).replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text and "innerHTML" not in text and "insertAdjacentHTML" not in text


class TestWrite:
    def test_every_record_comes_back_from_the_chunks(self, tmp_path: Path) -> None:
        log = [
            attempt(f"{number:03d}", 1 + number % 2, row_id=f"row {number}", seed=number * 2**50, prompt=HOSTILE * (number % 3),
                    verdicts=(TEXT_REJECTED,) * (number % 2), adapter="ink" if number == 0 else None)
            for number in range(250)
        ]  # fmt: skip
        assert write(LocalStorage(tmp_path, create=True), iter(log), SUMMARY) == REPORT_INDEX
        assert len(chunks_of(tmp_path, "data")) == 3
        assert records_in(tmp_path) == [plain(record) for record in log]

    def test_nothing_that_a_manifest_says_stands_raw_in_any_file(self, tmp_path: Path) -> None:
        record = attempt(HOSTILE, row_id=HOSTILE, prompt=HOSTILE, reason=HOSTILE, weights=HOSTILE, tags=((HOSTILE, HOSTILE),),
                         verdicts=(Verdict(HOSTILE, "rejected", HOSTILE),))  # fmt: skip
        summary = replace(SUMMARY, job=HOSTILE, rejects_by_reason={HOSTILE: 1})
        write(LocalStorage(tmp_path, create=True), [record], summary)
        files = list((tmp_path / "report").iterdir())
        assert len(files) == 3
        for file in files:
            text = file.read_text("utf-8")
            assert "</script><script>globalThis" not in text, file.name
            assert file.suffix == ".html" or text.isascii(), file.name

    def test_the_page_comes_last_and_a_longer_older_report_leaves_nothing(self, tmp_path: Path) -> None:
        class Watched(LocalStorage):
            def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
                order.append(key)
                super().put(key, data, media_type)

        order: list[str] = []
        storage = Watched(tmp_path, create=True)
        write(storage, (attempt(f"{number:04d}") for number in range(1001)), SUMMARY)
        assert order[-1] == REPORT_INDEX and order.count("report/index-0001.js") == 1
        write(storage, [attempt("a")], SUMMARY)
        names = {"report/data-0000.js", "report/index-0000.js", REPORT_INDEX}
        assert {stored.key for stored in storage.list("report/")} == names

    def test_equal_records_give_equal_files_and_other_records_another_build(self, tmp_path: Path) -> None:
        pages = []
        for name, records in (("a", [attempt("x")]), ("b", [attempt("x")]), ("c", [attempt("y")])):
            write(LocalStorage(tmp_path / name, create=True), records, SUMMARY)
            pages.append({file.name: file.read_bytes() for file in (tmp_path / name / "report").iterdir()})
        assert pages[0] == pages[1]
        builds = [json.loads(Page(page["index.html"].decode()).meta)["build"] for page in pages]
        assert builds[0] != builds[2]

    def test_the_time_span_is_the_records_own_where_the_summary_has_none(self, tmp_path: Path) -> None:
        log = [attempt("a", started_us=500, finished_us=900), attempt("b", started_us=300, finished_us=400)]
        for summary, span in ((SUMMARY, (300, 900)), (replace(SUMMARY, started_us=1, finished_us=2), (1, 2))):
            write(LocalStorage(tmp_path, create=True), log, summary)
            told = json.loads(Page((tmp_path / REPORT_INDEX).read_text("utf-8")).meta)["summary"]
            assert (told["started_us"], told["finished_us"]) == span

    def test_a_job_without_records_still_has_a_page(self, tmp_path: Path) -> None:
        write(LocalStorage(tmp_path, create=True), [], SUMMARY)
        meta = json.loads(Page((tmp_path / REPORT_INDEX).read_text("utf-8")).meta)
        assert (meta["images"], meta["current"], meta["summary"]["planned"]) == (0, 0, 4)
