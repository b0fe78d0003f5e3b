"""Real servers and real processes for the tests: an S3 server over HTTP, a key set, a small job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

TIMEOUT_S = 240


@dataclass
class Farm:
    """A folder with a manifest and a job, and the command line over it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def manifest(self, rows: list[dict[str, Any]], name: str = "rows.parquet") -> Path:
        """Write rows as they are, whatever is wrong with them."""
        path = self.folder / name
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path

    def job(self, name: str = "job.yaml", **changes: Any) -> Path:
        """A job that renders small, with few checks, in one process: a second one takes as long to start as such a job takes."""
        settings: dict[str, Any] = {
            "name": "tests",
            "manifest": "rows.parquet",
            "output": str(self.folder / "out"),
            "defaults": {"width": 256, "height": 256, "steps": 2, "guidance": 1.0},
            "farm": {"renderers": 1, "finishers": 0},
            "checks": {
                "attempts": 2,
                "broken": {"enabled": False},
                "duplicates": {"enabled": False},
                "copies": {"enabled": False},
                "counts": {"enabled": False},
            },
            "commit": {"interval_s": 2},
        }
        path = self.folder / name
        path.write_text(yaml.safe_dump({**settings, **changes}))
        return path

    def start(self, *args: str | Path, start_new_session: bool = False) -> subprocess.Popen[str]:
        """Start a command; in a session, and so a process group, of its own where that is asked for."""
        environment = {**os.environ, **self.env}
        command = [sys.executable, "-m", "renderfarm.cli", *map(str, args)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=start_new_session)

    def run(self, *args: str | Path, expect: int = 0) -> str:
        """Run a command to its end; its stdout. The exit code must be `expect`."""
        process = self.start(*args)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == expect, f"exit {process.returncode}, expected {expect}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return out

    def json(self, *args: str | Path, expect: int = 0) -> Any:
        """Run a command with --json."""
        return json.loads(self.run(*args, "--json", expect=expect))


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """A folder of its own, with keys of its own."""
    return Farm(tmp_path, {"XDG_CONFIG_HOME": str(tmp_path / "config")})


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 server on loopback, over HTTP."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_env(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a client needs to reach the server, set here too."""
    values = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def bucket(s3_env: dict[str, str], request: pytest.FixtureRequest) -> str:
    """A new bucket's name."""
    import boto3

    name = "b" + str(abs(hash(request.node.nodeid)))
    boto3.client("s3").create_bucket(Bucket=name)
    return name
