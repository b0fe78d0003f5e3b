"""Briefs on a real S3 server: a file, a folder of text files, and nothing."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from renderfarm import brief, manifest
from renderfarm.errors import ManifestError
from renderfarm.schema import PromptRow


def test_sources_on_s3(bucket: str, s3_env: dict[str, str], tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=s3_env["AWS_ENDPOINT_URL"])
    name = bucket.removeprefix("s3://").partition("/")[0]
    for key, body in (("b/s.csv", "ID,Caption\na,a mug\n"), ("b/t/2.txt", "a box"), ("b/t/10.txt", "a cup")):
        client.put_object(Bucket=name, Key=key, Body=body.encode())
    out = tmp_path / "m.parquet"

    def rows(key: str) -> list[PromptRow]:
        assert brief.build(f"s3://{name}/b/{key}", out).rows
        return [row for shard in manifest.read(str(out)) for row in shard.rows]

    assert rows("s.csv") == [PromptRow("a", "a mug")]
    assert rows("t") == [PromptRow("2", "a box"), PromptRow("10", "a cup")]
    with pytest.raises(ManifestError, match="no such file"):
        brief.build(f"s3://{name}/b/none.csv", out)
