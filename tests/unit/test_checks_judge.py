"""The judge against a real HTTP server on the loopback: what is sent, what is believed, and what becomes `not_run`."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from renderfarm.checks import registry
from renderfarm.checks.judge import JudgeCheck
from renderfarm.job.checks import ChecksSettings, JudgeSettings
from renderfarm.schema import Box, ObjectCount, PromptRow

ROW = PromptRow("r", "two mugs and a sign 'OPEN'", objects=(ObjectCount("mug", 2),))
IMAGE = np.full((100, 200, 3), (200, 30, 30), np.uint8)
FINE = {"score": 0.9, "faults": []}
BAD = {"score": 0.1, "faults": [{"what": "the left hand\nhas six fingers", "box": [0.5, 0.1, 0.25, 0.5]}, {"what": "no sign", "box": None}]}


class Endpoint:
    """Answers from a list, one a call; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.paused_s: list[float] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.asked.append((self.path, dict(self.headers), json.loads(body)))
                status, headers, answer = endpoint.answers.pop(0)
                if status == 0:
                    self.connection.close()
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def says(self, content: object, status: int = 200) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        document = {"choices": [{"message": {"content": text}}], "usage": {"total_tokens": 700}}
        self.answers.append((status, {}, json.dumps(document).encode()))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


def _check(endpoint: Endpoint, **settings: Any) -> JudgeCheck:
    check = JudgeCheck(JudgeSettings(enabled=True, url=endpoint.url, model="vlm", **settings), sleep=endpoint.paused_s.append)
    check.prepare()
    return check


def test_it_is_off_unless_asked_for_and_then_runs_last(endpoint: Endpoint) -> None:
    assert "judge" not in [c.name for c in registry.build(ChecksSettings())]
    wanted = ChecksSettings.model_validate({"judge": {"enabled": True, "url": endpoint.url, "model": "vlm"}})
    assert registry.build(wanted)[-1].name == "judge"


def test_the_request_holds_picture_row_and_schema_and_the_answer_counts(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    endpoint.says(FINE)
    check = _check(endpoint, key_env="JUDGE_TOKEN")
    verdict = check.check(IMAGE, ROW)
    assert (verdict.outcome, verdict.score, verdict.reason) == ("accepted", 0.9, "the judge finds nothing wrong")
    assert (check.calls, check.tokens) == (1, 700)
    ((path, headers, body),) = endpoint.asked
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer s3cret" and body["model"] == "vlm"
    said, shown = body["messages"][1]["content"]
    assert json.loads(said["text"]) == {"prompt": ROW.prompt, "objects": [{"class": "mug", "count": 2}], "text": "OPEN"}
    picture = Image.open(io.BytesIO(base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (200, 100) and picture.getpixel((5, 5))[0] > 150  # type: ignore[index]
    assert body["response_format"]["json_schema"]["strict"] is True


def test_faults_become_the_reason_and_boxes_in_pixels(endpoint: Endpoint) -> None:
    endpoint.says(BAD)
    endpoint.says(BAD)
    verdict = _check(endpoint).check(IMAGE, ROW)
    assert (verdict.outcome, verdict.reason) == ("flagged", "the left hand has six fingers; no sign")
    assert verdict.boxes == (Box(50, 10, 100, 50),)
    assert _check(endpoint, on_fail="reject").check(IMAGE, ROW).outcome == "rejected"


def test_what_is_busy_or_off_the_schema_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.answers.append((503, {"Retry-After": "7"}, b"busy"))
    endpoint.says("the picture is fine")
    endpoint.says(FINE)
    check = _check(endpoint)
    assert check.check(IMAGE, ROW).outcome == "accepted" and check.calls == 3 and endpoint.paused_s == [7.0, 1.0]


UNNAMED = {"score": 1, "faults": [{"what": "", "box": None}]}


@pytest.mark.parametrize("content", [{"score": 2, "faults": []}, {"score": 0.5}, FINE | {"ok": 1}, UNNAMED, "[]", "null"])
def test_an_answer_that_breaks_the_schema_is_no_answer(endpoint: Endpoint, content: object) -> None:
    endpoint.says(content)
    verdict = _check(endpoint, retries=0).check(IMAGE, ROW)
    assert (verdict.outcome, verdict.reason) == ("not_run", "the judge gave no answer: its answer does not keep to the schema")


@pytest.mark.parametrize(("status", "calls"), [(401, 1), (404, 1), (302, 1), (409, 3), (500, 3)])
def test_a_refusal_is_not_run_and_the_key_is_in_no_message(
    endpoint: Endpoint, status: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    endpoint.answers += [(status, {"Location": endpoint.url + "/elsewhere"}, b"s3cret?")] * 3
    verdict = _check(endpoint, key_env="JUDGE_TOKEN").check(IMAGE, ROW)
    assert (verdict.outcome, verdict.reason) == ("not_run", f"the judge gave no answer: HTTP {status}")
    assert len(endpoint.asked) == calls and "s3cret" not in repr(verdict)


def test_a_cut_connection_and_an_absent_endpoint_are_not_run(endpoint: Endpoint) -> None:
    endpoint.answers.append((0, {}, b""))
    assert "cannot be reached" in _check(endpoint, retries=0).check(IMAGE, ROW).reason
    away = JudgeCheck(JudgeSettings(enabled=True, url="http://127.0.0.1:9/v1", model="vlm", retries=1), endpoint.paused_s.append)
    verdict = away.check(IMAGE, ROW)
    assert verdict.outcome == "not_run" and "cannot be reached" in verdict.reason and away.calls == 2


def test_calls_have_a_limit(endpoint: Endpoint) -> None:
    endpoint.says(FINE)
    check = _check(endpoint, calls_max=1)
    assert check.check(IMAGE, ROW).outcome == "accepted"
    assert check.check(IMAGE, ROW).reason == "this finisher has used up its 1 calls (checks.judge.calls_max)"


def test_a_key_that_is_not_there_is_said(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_TOKEN", raising=False)
    check = JudgeCheck(JudgeSettings(enabled=True, url=endpoint.url, model="vlm", key_env="JUDGE_TOKEN"))
    (ready,) = registry.prepare([check])
    assert "the environment variable JUDGE_TOKEN is not set" in ready.check(IMAGE, ROW).reason and not endpoint.asked


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"enabled": True}, "needs judge.url"),
        ({"enabled": True, "url": "file:///etc/passwd", "model": "x"}, "needs judge.url"),
        ({"url": "http://me:pw@host/v1"}, "must hold no password"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        JudgeSettings.model_validate(settings)
