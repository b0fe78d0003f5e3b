"""The contact sheet in a real browser, opened from disk: search, filters, a click, keys, boxes, and a manifest that attacks it."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from renderfarm.report import Summary, write
from renderfarm.report.encode import plain
from renderfarm.schema import Box, ObjectCount, Record, Verdict
from renderfarm.storage import LocalStorage, segment
from scripts.report.chromium import Browser, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")

ATTACK = "</script><script>globalThis.pwned=1</script><img src=x onerror='globalThis.pwned=1'>"
HOSTILE_IDS = (
    "../../etc/passwd", "a/b", "..", "%2e%2e", "%", "a?b#c&d=e", "javascript:globalThis.pwned=1", "naïve 雪", "~" * 200,
    "\"><img src=x onerror=globalThis.pwned=1>", ATTACK, "__proto__", "{{ meta }}",
)  # fmt: skip
WIDTH, HEIGHT = 320, 160
BOX = Box(80, 40, 160, 120)
SUMMARY = Summary(
    "mockups", 40, 30, 1, 1, 8, {"text": 3, "counts": 1}, 1.5, 2, 1_795_480_200_000_000, 1_795_483_800_000_000
)  # fmt: skip


def picture(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), colour).save(buffer, "WEBP")
    return buffer.getvalue()


def attempt(row_id: str, number: int = 1, outcome: Any = "accepted", **fields: Any) -> Record:
    folder = "images" if outcome == "accepted" else "review"
    key = f"{segment(row_id)}/0-{number}-0123456789ab.webp"
    return replace(
        Record(
            kind="attempt", job="mockups", image_id=row_id.encode().hex()[:32], row_id=row_id, index=0, attempt=number,
            prompt=f"a mug for {row_id}", seed=2**61 + 1, width=WIDTH, height=HEIGHT, steps=20, guidance=4.5,
            weights="starter", device="cpu", outcome=outcome, object_key=f"{folder}/{key}", thumb_key=f"thumbs/{key}",
            started_us=1_795_480_200_123_456, finished_us=1_795_480_201_000_000,
        ),
        **fields,
    )  # fmt: skip


def build(folder: Path, records: list[Record], summary: Summary = SUMMARY) -> str:
    """Writes report and pictures; returns the page's address on disk."""
    storage = LocalStorage(folder, create=True)
    for record in records:
        colour = (40, 160, 90) if record.outcome == "accepted" else (190, 60, 50)
        for key in filter(None, (record.object_key, record.thumb_key)):
            storage.put(key, picture(colour), "image/webp")
    return (folder / write(storage, records, summary)).as_uri()


def ordinary() -> list[Record]:
    """Thirty accepted images, one after a rejection, one exhausted, one failed, one superseded."""
    wrong = Verdict("text", "rejected", "the sign reads OPFN, expected OPEN", 0.75, 0.9, (BOX,))
    right = Verdict("text", "accepted", "the sign reads OPEN", 1.0, 0.9)
    flag = Verdict("duplicates", "flagged", "looks much like mug-3", 22.0, 31.0)
    records = [
        attempt(f"mug-{number}", tags=(("campaign", "spring" if number % 2 else "autumn"), ("sku", f"M-{number}")))
        for number in range(1, 29)
    ]
    records.append(attempt("sign-open", 1, "rejected", prompt='a café sign that says "OPEN"', verdicts=(wrong,)))
    records.append(attempt("sign-sale", 1, "rejected", verdicts=(wrong,)))
    records.append(attempt("sign-sale", 2, "rejected", verdicts=(replace(wrong, check="counts", reason="2 signs, 1 wanted"),)))
    records.append(attempt("lamp", 1, "failed", reason="out of memory", object_key=None, thumb_key=None))
    records.append(
        attempt("sign-open", 2, prompt='a café sign that says "OPEN"', verdicts=(right, flag), objects=(ObjectCount("sign", 1),),
                tags=(("campaign", "spring"),), file_bytes=1234, batch=("aa", "bb"))
    )  # fmt: skip
    records.append(attempt("old"))
    records.append(Record(kind="superseded", image_id=attempt("old").image_id))
    return records


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(tmp_path_factory.mktemp("output"), ordinary())


def names(browser: Browser) -> list[str]:
    found: list[str] = browser.ask("[...document.querySelectorAll('.card .name b')].map((one) => one.textContent)")
    return found


def pictures_load(browser: Browser, selector: str) -> int:
    """Waits for the pictures and counts them; a picture that does not load is replaced by words."""
    load = f"""Promise.all([...document.querySelectorAll({selector!r})].map(async (one) => {{
        one.loading = 'eager';
        await one.decode();
        return one.naturalWidth === {WIDTH};
    }}))"""
    found = browser.ask(load)
    assert all(found)
    assert browser.ask("document.querySelectorAll('.missing').length") == browser.ask("document.querySelectorAll('.card.is-failed').length")
    return len(found)


def settle(browser: Browser) -> None:
    browser.wait("document.documentElement.dataset.ready")


class TestSheet:
    def test_shows_the_plan_in_order_from_thumbs_alone(self, browser: Browser, page: str) -> None:
        browser.open(page)
        assert names(browser) == ["lamp", *(f"mug-{number}" for number in range(1, 29)), "sign-open", "sign-sale"]
        assert pictures_load(browser, ".card img") == 30
        sources = browser.ask("[...document.images].map((one) => one.getAttribute('src'))")
        assert all(source.startswith("../thumbs/") for source in sources)
        assert browser.complaints() == []

    def test_header_tells_the_job(self, browser: Browser, page: str) -> None:
        browser.open(page)
        header = browser.ask("document.querySelector('.top').innerText")
        for part in ("mockups", "Model starter on cpu", "24 Nov 2026, 00:30 – 01:30 UTC (60 min)", "1.50 images/s", "4 rejected attempts"):
            assert part in header, part
        counts = browser.ask("[...document.querySelectorAll('#counts div')].map((one) => one.innerText.split('\\n'))")
        assert dict((name.lower(), value) for name, value in counts) == {
            "planned": "40", "accepted": "30", "exhausted": "1", "failed": "1", "remaining": "8"}  # fmt: skip
        assert "Starter model" in browser.ask("document.querySelector('#model-note').innerText")
        assert browser.ask("document.querySelector('#found').innerText") == "31 images; 8 more not attempted yet"

    @pytest.mark.parametrize(
        ("address", "found"),
        [
            ("q=mug-7", ["mug-7"]),
            ("q=CAFE+sign", ["sign-open"]),
            ("q=%22sign+that%22", ["sign-open"]),
            ("q=OPFN", ["sign-open", "sign-sale"]),
            ("q=sku:m-12", ["mug-12"]),
            ("q=nothing+like+it", []),
            ("state=exhausted", ["sign-sale"]),
            ("state=failed", ["lamp"]),
            ("state=flagged", ["sign-open"]),
            ("state=superseded", ["old"]),
            ("check=text:rejected", ["sign-open", "sign-sale"]),
            ("check=counts:rejected", ["sign-sale"]),
            ("check=:rejected&state=accepted", ["sign-open"]),
            ("tag=campaign%3Dspring&q=sign", ["sign-open"]),
            ("tag=campaign%3Dspring&tag=sku%3DM-3", ["mug-3"]),
        ],
    )
    def test_search_and_filters(self, browser: Browser, page: str, address: str, found: list[str]) -> None:
        browser.open(f"{page}#{address}")
        assert names(browser) == found
        whole = 1 if address == "state=superseded" else 31
        assert browser.ask("document.querySelector('#found').innerText").startswith(f"{len(found)} of {whole} images")

    def test_controls_set_the_filters_and_the_address(self, browser: Browser, page: str) -> None:
        browser.open(page)
        browser.press("/")
        for letter in "open":
            browser.press(letter)
        browser.wait("location.hash === '#q=open'")
        settle(browser)
        assert names(browser) == ["sign-open", "sign-sale"]
        browser.ask("document.querySelector('#states [value=exhausted]').click()")
        settle(browser)
        assert names(browser) == ["sign-sale"]
        browser.ask("history.back()")
        browser.wait("document.querySelectorAll('.card').length === 2")
        browser.ask("[...document.querySelectorAll('#chips button')].at(-1).click()")
        settle(browser)
        assert len(names(browser)) == 31
        browser.ask("document.querySelector('#rejects button').click()")
        settle(browser)
        assert names(browser) == ["sign-open", "sign-sale"]
        assert browser.ask("document.querySelector('#check').value") == "text:rejected"

    def test_pages(self, browser: Browser, tmp_path: Path) -> None:
        records = [replace(attempt("x"), image_id=f"{number:032x}", row_id=f"row {number}") for number in range(2300)]
        browser.open(build(tmp_path, records[:1]))
        page = (tmp_path / write(LocalStorage(tmp_path, create=True), records, SUMMARY)).as_uri()
        browser.open(page)
        assert names(browser) == [f"row {number}" for number in range(120)]
        loaded = browser.ask("performance.getEntriesByType('resource').map((one) => one.name.split('/').at(-1).split('?')[0])")
        assert "index-0001.js" not in loaded, "the first page needs the first chunk only"
        browser.open(f"{page}#page=20")
        assert names(browser) == [f"row {number}" for number in range(2280, 2300)]
        browser.open(f"{page}#page=9&q=row")
        assert names(browser)[0] == "row 960", "a page that straddles two chunks"
        browser.ask("document.querySelector('.pager button:last-child').click()")
        settle(browser)
        assert names(browser)[-1] == "row 2299"

    def test_fits_a_phone_and_follows_the_colour_scheme(self, browser: Browser, page: str) -> None:
        grounds = []
        for dark in (False, True):
            browser.open(page, width=375, height=700, dark=dark)
            assert browser.ask("document.documentElement.scrollWidth") == 375
            grounds.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
        light, dark_ground = (sum(map(int, ground[4:-1].split(","))) for ground in grounds)
        assert light > 700 and dark_ground < 100

    def test_an_empty_report_says_so(self, browser: Browser, tmp_path: Path) -> None:
        browser.open(build(tmp_path, []))
        assert browser.ask("document.querySelector('#grid').innerText") == "Nothing has been rendered yet."
        assert browser.complaints() == []


class TestOneImage:
    def test_a_click_shows_every_field_and_the_full_picture(self, browser: Browser, page: str) -> None:
        browser.open(f"{page}#q=sign-open")
        browser.ask("document.querySelector('.card').click()")
        browser.wait("document.querySelector('#detail[open] .side')")
        shown = dict(
            browser.ask("[...document.querySelectorAll('.fields dt')].map((one) => [one.textContent, one.nextElementSibling.textContent])")
        )
        record = next(item for item in ordinary() if item.row_id == "sign-open" and item.outcome == "accepted")
        assert shown.keys() == {name for name, value in plain(record).items() if value != ""} - {"verdicts"}
        assert shown["seed"] == str(2**61 + 1)
        assert shown["prompt"] == record.prompt
        assert shown["started_us"] == "2026-11-24 00:30:00.123456 UTC"
        assert (shown["objects"], shown["batch"], shown["tags"]) == ("1 × sign", "aa\nbb", "campaign: spring")
        rows = browser.ask(
            "[...document.querySelectorAll('.verdicts tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
        )
        assert rows == [
            ["text", "✓ Accepted", "1", "0.9"], ["the sign reads OPEN"],
            ["duplicates", "⚑ Flagged", "22", "31"], ["looks much like mug-3"],
        ]  # fmt: skip
        assert pictures_load(browser, ".stage img") == 2
        link = browser.ask("document.querySelector('.actions a').getAttribute('href')")
        assert link == "../images/sign-open/0-2-0123456789ab.webp"

    def test_rejected_attempts_stand_beside_with_reason_and_boxes(self, browser: Browser, page: str) -> None:
        browser.open(page + "#image=" + b"sign-open".hex())
        browser.wait("document.querySelectorAll('.tile').length === 2")
        assert "the sign reads OPFN, expected OPEN" in browser.ask("document.querySelector('.tile').innerText")
        assert browser.ask("document.querySelectorAll('.stage .box').length") == 0
        browser.press("ArrowUp")
        browser.wait("document.querySelector('.stage .box')")
        pictures_load(browser, ".stage img")
        place = browser.ask("""(() => {
            const box = document.querySelector('.stage .box rect').getBoundingClientRect();
            const image = document.querySelector('.stage img:not(.under)').getBoundingClientRect();
            return [(box.left - image.left) / image.width, (box.top - image.top) / image.height,
                    (box.right - image.left) / image.width, (box.bottom - image.top) / image.height,
                    image.width / image.height];
        })()""")
        wanted = [BOX.x0 / WIDTH, BOX.y0 / HEIGHT, BOX.x1 / WIDTH, BOX.y1 / HEIGHT, WIDTH / HEIGHT]
        assert place == pytest.approx(wanted, abs=0.01)
        assert browser.ask("document.querySelector('.stage .box text').textContent") == "text"
        assert browser.ask("document.querySelector('.stage img:not(.under)').getAttribute('src')").startswith("../review/")
        browser.press("b")
        assert browser.ask("getComputedStyle(document.querySelector('.stage .overlay')).visibility") == "hidden"
        browser.press("b")

    def test_keys_walk_through_what_was_found(self, browser: Browser, page: str) -> None:
        browser.open(f"{page}#q=sign")
        title = "document.querySelector('#detail[open] h2 span')?.textContent"
        browser.press("ArrowRight")
        browser.press("Enter")
        browser.wait(f"{title} === 'sign-open'")
        browser.press("ArrowLeft")
        browser.press("ArrowRight")
        browser.wait(f"{title} === 'sign-sale'")
        assert browser.ask("document.querySelector('.where').textContent") == "2 of 2"
        browser.press("ArrowRight")
        assert browser.ask(title) == "sign-sale"
        browser.press("Escape")
        browser.wait("location.hash === '#q=sign'")
        assert not browser.ask("document.querySelector('#detail').open")
        assert browser.ask("document.activeElement.querySelector('b').textContent") == "sign-sale"

    def test_an_image_that_comes_late_does_not_open_what_was_closed(self, browser: Browser, page: str) -> None:
        browser.open(f"{page}#q=mug-")
        browser.ask("document.querySelector('.card').click()")
        browser.wait("document.querySelector('#detail').open")
        browser.ask("renderfarm.step(1), renderfarm.step(1), renderfarm.close()")
        browser.wait("location.hash === '#q=mug-'")
        browser.ask("new Promise((done) => setTimeout(done, 100))")
        assert not browser.ask("document.querySelector('#detail').open")
        assert browser.ask("document.activeElement.querySelector('b').textContent") == "mug-1"

    def test_an_image_without_picture_opens_too(self, browser: Browser, page: str) -> None:
        browser.open(f"{page}#image={attempt('lamp').image_id}")
        browser.wait("document.querySelector('#detail[open] .stage .missing')")
        assert "out of memory" in browser.ask("document.querySelector('.verdict-note').innerText")
        assert browser.complaints() == []

    def test_an_address_of_no_image_says_so(self, browser: Browser, page: str) -> None:
        browser.open(f"{page}#image=beef")
        browser.wait("!document.querySelector('#trouble').hidden")
        assert browser.ask("document.querySelector('#trouble').innerText") == "No image beef in this report"


def hostile() -> tuple[list[Record], Summary]:
    """Every text of the log attacks the page; the ids also attack the links."""
    verdicts = (Verdict(ATTACK, "rejected", ATTACK, 0.5, 0.9, (BOX,)), Verdict("__proto__", "flagged", ATTACK))
    records = [
        attempt(row_id, 1, "rejected", prompt=ATTACK, negative_prompt=ATTACK, text=ATTACK, weights=ATTACK, reason=ATTACK,
                verdicts=verdicts, tags=(("__proto__", "x"), ("constructor", ATTACK), (ATTACK, ATTACK)),
                objects=(ObjectCount(ATTACK, 1),))
        for row_id in HOSTILE_IDS
    ]  # fmt: skip
    return records, replace(SUMMARY, job=ATTACK, rejects_by_reason={ATTACK: 2, "__proto__": 1})


class TestHostile:
    def assert_harmless(self, browser: Browser, page: str) -> None:
        browser.open(page)
        assert sorted(names(browser)) == sorted(HOSTILE_IDS)
        assert pictures_load(browser, ".card img") == len(HOSTILE_IDS)
        assert browser.ask("document.querySelector('#job').textContent") == ATTACK
        prompts = browser.ask("[...document.querySelectorAll('.card .prompt')].map((one) => one.textContent)")
        assert set(prompts) == {ATTACK}
        for _ in range(len(HOSTILE_IDS)):
            browser.press("ArrowRight")
            browser.press("Enter") if not browser.ask("document.querySelector('#detail').open") else None
            browser.wait("document.querySelector('#detail[open] .stage img')")
            assert pictures_load(browser, ".stage img") == 2
        assert browser.ask("document.querySelectorAll('#tag option').length") == 4
        assert browser.ask("globalThis.pwned ?? 'safe'") == "safe"
        assert browser.ask("({}).polluted ?? Object.keys(Object.prototype).length") == 0
        assert browser.complaints() == []

    def test_from_disk(self, browser: Browser, tmp_path: Path) -> None:
        self.assert_harmless(browser, build(tmp_path / "output # 100%?", *hostile()))

    def test_from_a_bucket(self, browser: Browser, tmp_path: Path) -> None:
        """Over HTTP, under a prefix, as a bucket serves it."""
        build(tmp_path / "some prefix", *hostile())
        handler = functools.partial(QuietHandler, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                self.assert_harmless(browser, f"http://127.0.0.1:{server.server_port}/some%20prefix/report/index.html")
            finally:
                server.shutdown()

    def test_the_policy_stops_a_script_that_got_in(self, browser: Browser, page: str) -> None:
        browser.open(page)
        browser.ask("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"globalThis.pwned=1\">')")
        browser.ask("new Promise((done) => setTimeout(done, 200))")
        assert browser.ask("globalThis.pwned ?? 'safe'") == "safe"
        assert any("Content Security Policy" in complaint for complaint in browser.complaints())


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


class TestDamaged:
    def trouble(self, browser: Browser) -> str:
        browser.wait("!document.querySelector('#trouble').hidden")
        text: str = browser.ask("document.querySelector('#trouble').innerText")
        return text

    def test_a_missing_chunk_is_named_with_the_remedy(self, browser: Browser, tmp_path: Path) -> None:
        page = build(tmp_path, ordinary())
        (tmp_path / "report/data-0000.js").unlink()
        browser.open(page)
        browser.ask("document.querySelector('.card').click()")
        assert self.trouble(browser).startswith("report/data-0000.js could not be read. Write the report again")

    def test_a_chunk_of_another_report_is_not_mixed_in(self, browser: Browser, tmp_path: Path) -> None:
        page = build(tmp_path / "a", ordinary())
        build(tmp_path / "b", [attempt("other")])
        chunk = "report/index-0000.js"
        (tmp_path / "a" / chunk).write_bytes((tmp_path / "b" / chunk).read_bytes())
        browser.open(page)
        assert "belongs to another version of this report" in self.trouble(browser)
        assert names(browser) == []


def test_the_list_is_saved_as_csv_without_formulas(browser: Browser, tmp_path: Path) -> None:
    page = build(tmp_path, [attempt("\n＝HYPERLINK(1)", prompt='say "hi", twice', text="SALE", tags=(("sku", "@7"),))])
    browser.open(page)
    browser.ask("""(() => {
        URL.createObjectURL = (blob) => { globalThis.saved = blob.text(); return 'data:,'; };
        document.querySelector('#save').click();
    })()""")
    saved = browser.ask("new Promise((done) => setTimeout(done, 100)).then(() => globalThis.saved)")
    (row,) = csv.DictReader(io.StringIO(saved.removeprefix("\ufeff"), newline=""))
    assert list(row) == ["row_id", "index", "image_id", "state", "attempts", "reasons", "prompt", "text", "file", "tag.sku"]
    assert (row["row_id"], row["prompt"], row["text"], row["tag.sku"]) == ("'\n＝HYPERLINK(1)", 'say "hi", twice', "SALE", "'@7")
    assert row["file"] == "images/%0A%EF%BC%9DHYPERLINK%281%29/0-1-0123456789ab.webp"
