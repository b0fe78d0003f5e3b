"""Metrics scraped over HTTP while a simulated run goes, and parsed by Prometheus's own reader: they say what the log says."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from renderfarm.job import JobSettings
from renderfarm.log.writer import LogWriter
from renderfarm.run.loop import Loop, Tally
from renderfarm.run.metrics import STALE_S, Metrics, serving
from renderfarm.run.stop import StopSignals
from renderfarm.run.units import UnitQueue
from renderfarm.schema import Record
from tests.simulation.test_loop import calm
from tests.simulation.world import SIGNER, NoDuplicates, SimEngine

Samples = dict[tuple[str, str], float]


def job(**metrics: object) -> JobSettings:
    return JobSettings.model_validate({"name": "sim", "manifest": "-", "output": "-", "farm": {"metrics": metrics}})


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scraped(address: str) -> Samples:
    """(name, label value) → value."""
    code, text = get(f"{address}/metrics")
    assert code == 200
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.pop("render_job") == "sim"
            found[sample.name, "".join(sample.labels.values())] = sample.value
    return found


def test_a_scrape_in_the_middle_of_a_run_and_one_at_its_end() -> None:
    world = calm(9, images=60, rejects=0.4)
    storage = world.calm()
    writer = LogWriter.open(storage, world.job.name, SIGNER)
    writer.append([Record(kind="plan", job="sim", plan_digest="plan", planned=len(world.plan))])
    engine = SimEngine(world.rng, world.fate, 6, world.machines, lambda: None)
    metrics = Metrics("sim", clock=engine.clock)
    seen: list[Samples] = []
    tally = Tally(len(world.plan), renderers=3)
    with serving(metrics, job(port=0)) as address:
        assert address is not None and get(f"{address}/healthz") == (200, "ok\n")

        def watch(found: Tally) -> None:
            metrics(found)
            if found.committed and found.rejected_attempts and not seen:
                seen.append(scraped(address))

        queue = UnitQueue(world._open_work(writer), 4)
        Loop(world.job, "plan", queue, engine, writer, NoDuplicates(), StopSignals(), tally, watch, clock=engine.clock).run()
        seen.append(scraped(address))
    middle, end = seen
    states = ("accepted", "exhausted", "failed", "remaining")
    for found in seen:
        assert sum(found["renderfarm_images", state] for state in states) == found["renderfarm_planned_images", ""] == len(world.plan)
    assert middle["renderfarm_images", "remaining"] > 0
    assert 0 < sum(middle["renderfarm_units_in_flight", stage] for stage in ("render", "check", "store")) <= 6
    assert middle["renderfarm_bytes_in_flight", ""] % (512 * 512 * 3) == 0 < middle["renderfarm_bytes_in_flight", ""]
    assert middle["renderfarm_queued_attempts", "ahead"] > 0
    assert end["renderfarm_images", "remaining"] == end["renderfarm_stored_records", ""] == 0
    counts = writer.state.counts(3)
    assert (end["renderfarm_images", "accepted"], end["renderfarm_images", "exhausted"]) == (counts.accepted, counts.exhausted)
    assert (
        end["renderfarm_attempts_total", ""]
        == end["renderfarm_committed_records_total", ""]
        == len(world.rendered or engine.rendered_attempts)
    )
    assert end["renderfarm_rejections_total", "sim"] == end["renderfarm_rejected_attempts_total", ""] > 0
    assert 0 < end["renderfarm_renderer_busy_ratio", ""] <= 1
    assert end["renderfarm_renderer_busy_seconds_total", ""] == pytest.approx(tally.busy_s)
    assert 0 < end["renderfarm_last_commit_timestamp_seconds", ""] <= engine.now


def test_a_driver_that_takes_no_steps_is_not_healthy() -> None:
    now = [1000.0]
    metrics = Metrics("sim", clock=lambda: now[0])
    with serving(metrics, job(port=0)) as address:
        now[0] += STALE_S + 1
        assert get(f"{address}/healthz")[0] == 503
        metrics(Tally(1))
        assert get(f"{address}/healthz")[0] == 200
        assert get(f"{address}/")[0] == 404


def test_a_port_that_is_taken_costs_the_metrics_and_not_the_run() -> None:
    with serving(Metrics("sim"), job(port=0)) as address:
        assert address is not None
        with serving(Metrics("sim"), job(port=int(address.rpartition(":")[2]))) as second:
            assert second is None
    with serving(Metrics("sim"), job(port=0, host="no-such-host.invalid")) as third:
        assert third is None
    with serving(Metrics("sim"), job()) as none:
        assert none is None


def test_it_listens_on_loopback_unless_told() -> None:
    with serving(Metrics("sim"), job(port=0)) as address:
        assert address is not None and address.startswith("http://127.0.0.1:")
