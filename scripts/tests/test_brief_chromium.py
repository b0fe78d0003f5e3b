"""The page of a brief in a browser: from disk, by keyboard, with a hundred thousand rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from renderfarm.explain import RowLine, write_page
from scripts.report.chromium import Browser, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium")
ROWS = 100_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("brief") / "brief.html"

    def lines() -> Iterator[tuple[RowLine, list[str]]]:
        for number in range(ROWS):
            prompt = f"a product photo of mug number {number} <b>on</b> a table in soft light"
            lettering = "SALE" if number % 10 == 0 else None
            warned = ["prompt: '[Name]' looks like a placeholder"] if number % 1000 == 7 else []
            tags = (("campaign", f"c{number % 5}"),)
            yield (
                RowLine(
                    number + 2, f"sku-{number}", prompt, "512x512", 1, "5 (derived)", "", lettering, "", "1 mug", ("text",), (), 9, 75, tags
                ),
                warned,
            )

    about = {
        "source": "b.xlsx",
        "unit": "row",
        "totals": ["100000 rows"],
        "checks": ["text: runs"],
        "campaigns": [],
        "sizes": [],
        "notes": [],
        "faults": [],
    }
    assert write_page(path, "mugs", lines(), lambda: about) == ROWS
    return path.as_uri()


def selected(browser: Browser) -> str:
    return str(browser.ask("document.querySelector('[aria-selected=true]')?.children[1].textContent ?? ''"))


def test_a_hundred_thousand_rows_open_and_scroll_without_freezing(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.wait("document.querySelectorAll('#window > div').length > 5")
    assert browser.ask("document.querySelectorAll('#window > div').length") < 80, "only what is looked at is drawn"
    taken = browser.ask("""(() => {
        const grid = document.querySelector('#grid'), begun = performance.now();
        for (let step = 0; step < 50; step += 1) { grid.scrollTop = step * 70_000; grid.dispatchEvent(new Event('scroll')); }
        return performance.now() - begun;
    })()""")
    assert taken < 5000
    assert browser.complaints() == []


def test_by_keyboard_alone(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.wait("document.querySelectorAll('#window > div').length > 5")
    browser.ask("document.querySelector('#grid').focus()")
    for _ in range(3):
        browser.press("ArrowDown")
    assert selected(browser) == "sku-3"
    browser.press("Enter")
    browser.wait("!document.querySelector('#detail').hidden")
    detail = str(browser.ask("document.querySelector('#detail').innerText"))
    assert "row 5" in detail and "<b>on</b>" in detail and "campaign: c3" in detail
    browser.press("ArrowDown")
    assert "mug number 4 " in str(browser.ask("document.querySelector('#detail').innerText"))
    browser.press("Escape")
    assert browser.ask("document.querySelector('#detail').hidden") is True


def test_search_and_filter_look_through_all_rows(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.wait("document.querySelectorAll('#window > div').length > 5")
    browser.ask("(() => { const q = document.querySelector('#query'); q.value = 'sku-99999'; q.dispatchEvent(new Event('input')); })()")
    browser.wait("document.querySelector('#found').textContent.startsWith('1 of')")
    assert selected(browser) == "sku-99999"
    browser.ask(
        "(() => { document.querySelector('#query').value = ''; const s = document.querySelector('#show'); s.value = 'warned';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    browser.wait("document.querySelector('#found').textContent.startsWith('100 of')")
    assert selected(browser) == "sku-7"
