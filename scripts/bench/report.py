"""How long the contact sheet takes to write and to use with many images: one JSON line at the end.

    python -m scripts.bench.report [--images 10000]

The ceiling: a page that shows its first 120 thumbs cannot be faster than Chromium decodes them; here one file serves all
images, so decoding is cheap and what is measured is the page's own work. A task longer than 50 ms is what a person feels.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from renderfarm.report import write
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage
from scripts.report.chromium import Browser
from scripts.report.example import encoded, invent, summary_of
from scripts.starter.world import Spec, draw

WATCH = """
globalThis.longest = 0;
new PerformanceObserver((list) => { for (const task of list.getEntries()) longest = Math.max(longest, task.duration); })
  .observe({ type: "longtask", buffered: true });
"""
ACTIONS = {
    "search_word": "renderfarm.go({ q: 'mug brick' })",
    "search_nothing": "renderfarm.go({ q: 'no such words anywhere' })",
    "search_id": "renderfarm.go({ q: '-4999' })",
    "filter_rejected": "renderfarm.go({ q: '', check: ':rejected' })",
    "filter_tag": "renderfarm.go({ check: '', tags: [['campaign', 'spring']] })",
    "last_page": "renderfarm.go({ tags: [], page: 1e9 }, { samePage: true })",
    "open_image": "renderfarm.open(4321)",
}


def records(images: int, thumb: str) -> Iterator[Record]:
    """Made-up attempts that all show one stored picture."""
    for item in invent(images, boxes=False):
        has_file = item.record.object_key is not None
        yield replace(item.record, object_key=thumb, thumb_key=thumb) if has_file else item.record


def measure_page(page: Path) -> dict[str, float]:
    """Milliseconds from an action to the drawn page, the longest task, and the memory in MB."""
    found: dict[str, float] = {}
    with Browser() as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        started = time.perf_counter()
        browser.open(page.as_uri())
        found["open_ms"] = round((time.perf_counter() - started) * 1000)
        for name, action in ACTIONS.items():
            timed = f"(async () => {{ const t = performance.now(); await {action}; return performance.now() - t; }})()"
            found[f"{name}_ms"] = round(browser.ask(timed), 1)
        found["longest_task_ms"] = browser.ask("longest")
        browser.call("HeapProfiler.collectGarbage")
        heap = browser.ask("performance.memory.usedJSHeapSize")
        found["heap_mb"] = round(heap / 1e6, 1)
        found["cards"] = browser.ask("document.querySelectorAll('.card').length")
        assert not browser.complaints(), browser.complaints()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=10_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        storage = LocalStorage(Path(folder), create=True)
        storage.put("thumbs/all.webp", encoded(draw(Spec("mug", "red", "brick"), 1), "WEBP"), "image/webp")
        log = list(records(images, "thumbs/all.webp"))
        summary = summary_of(log, images)
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        page = Path(folder) / write(storage, log, summary)
        write_s = time.process_time() - started
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        sizes = [file.stat().st_size for file in page.parent.iterdir()]
        result = {"bench": "report", "images": images, "records": len(log), "write_cpu_s": round(write_s, 2),
                  "write_memory_mb": round(grown_kib / 1024, 1), "files": len(sizes), "mb": round(sum(sizes) / 1e6, 1),
                  **measure_page(page)}  # fmt: skip
    for name, value in result.items():
        print(f"{name:24} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
