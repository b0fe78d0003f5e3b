"""Prompts said otherwise: what is changed and what never is, the noise, and how far pictures moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from renderfarm import credential
from renderfarm.cli import main
from renderfarm.cli.evaluate import fragile_job
from renderfarm.errors import UserError
from renderfarm.evaluate.evaluation import evaluate_fragility
from renderfarm.evaluate.fragility import BASE, NOISE, PARAPHRASE, fragile_rows, fragility_figures, moved, variants
from renderfarm.evaluate.gather import Sample, SampleSet
from renderfarm.evaluate.page import write_page
from renderfarm.job import load_job
from renderfarm.log.writer import LogWriter
from renderfarm.plan import Intent, attempt_of, plan_row
from renderfarm.schema import ObjectCount, PromptRow
from tests import encoders, outputs


def test_what_is_said_otherwise() -> None:
    assert list(variants("a product photo of a red mug on a wooden table")) == [
        ("paraphrase", "a product photograph of a red mug on a wooden table"),
        ("paraphrase", "a red mug on a wooden table, a product photo"),
        ("paraphrase", "A product photo of a red mug on a wooden table."),
        ("typo", "a prdouct photo of a red mug on a wooden table"),
        ("word left out", "a product photo of a red mug on a table"),
        ("word changed", "a product photo of a green mug on a wooden table"),
    ]
    assert ("paraphrase", "a picture of a mug") in list(variants("an image of a mug"))
    assert ("paraphrase", "a mug, golden hour, sunset") in list(variants("a mug, sunset, golden hour"))
    assert [kind for kind, _ in variants("Mug")] == ["paraphrase", "paraphrase"]


@given(st.text(max_size=60) | st.from_regex(r'an? (photo|picture) of [a-z ]{3,30}("[A-Z ]{1,9}")?', fullmatch=True))
def test_no_variant_is_the_prompt_itself_or_comes_twice(prompt: str) -> None:
    texts = [text for _, text in variants(prompt)]
    assert prompt not in texts and len(set(texts)) == len(texts) and all(text.strip() for text in texts)


def test_lettering_stays_as_it_is() -> None:
    for _, text in variants('a photo of a red sign that says "GOLDEN TWO RED CUPS" on a beach, sunset, golden hour'):
        assert '"GOLDEN TWO RED CUPS"' in text


def job_of(folder: Path, **more: object) -> Path:
    rows = {"id": ["a", "b"], "prompt": ["a photo of a red mug", "two green boxes"], "seed": pa.array([7, None], pa.int64())}
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    sides = {"width": 256, "height": 256, "steps": 1}
    (folder / "job.yaml").write_text(
        yaml.safe_dump({"name": "demo", "manifest": "rows.parquet", "output": "out", "defaults": sides, **more})
    )
    return folder / "job.yaml"


def test_all_variants_have_the_noise_that_the_job_gives_the_row(tmp_path: Path) -> None:
    job = load_job(job_of(tmp_path))
    row = PromptRow("b", "two green boxes", text="X", objects=(ObjectCount("box", 2),), images=4)
    made = fragile_rows([PromptRow("a", "a mug", seed=7), row], job)
    assert len({one.id for one in made}) == len(made) and {one.images for one in made} == {1} and {one.objects for one in made} == {()}
    for name, source in (("a", PromptRow("a", "a mug", seed=7)), ("b", row)):
        own = plan_row(source, "", Intent(job, ""))[0]
        seeds = {dict(one.tags)["fragility.kind"]: one.seed for one in made if dict(one.tags)["fragility.row"] == name}
        assert {seed for kind, seed in seeds.items() if kind != NOISE} == {own.seed}
        assert seeds[NOISE] == attempt_of(own, 2).seed != own.seed
        assert plan_row(made[0], "", Intent(job, ""))[0].seed == 7
    small = fragile_job(job, tmp_path / "f")
    assert not any(section.get("enabled") for section in small.checks.model_dump().values() if isinstance(section, dict))
    assert (small.checks.attempts, small.defaults.steps, small.name) == (1, 1, "demo-fragility")


def test_distances_are_from_each_rows_base_and_each_row_counts_once() -> None:
    turned = {BASE: 0.0, PARAPHRASE: 0.2, NOISE: 0.6}
    samples, features = [], []
    for row in range(20):
        for kind, angle in [*turned.items(), *[(PARAPHRASE, 0.2)] * (row % 3)]:
            samples.append(
                Sample(f"{len(samples)}.png", str(len(samples)), 0, kind, (("fragility.row", f"r{row}"), ("fragility.kind", kind)))
            )
            features.append([np.cos(angle + row), np.sin(angle + row)])
    found = SampleSet("f", tuple(samples), np.zeros((len(samples), 48)), np.array(features, np.float32))
    pairs = moved(found)
    assert {pair.kind for pair in pairs} == {PARAPHRASE, NOISE} and len(pairs) == len(samples) - 20
    figures = {figure.name: figure for figure in fragility_figures(pairs)}
    assert figures["moved:paraphrase"].value == pytest.approx(1 - np.cos(0.2), rel=1e-4)
    ratio = figures["fragility"]
    assert ratio.value == pytest.approx((1 - np.cos(0.2)) / (1 - np.cos(0.6)), rel=1e-4) and ratio.count == 20
    assert ratio.low is not None and ratio.high is not None and ratio.low <= ratio.value <= ratio.high
    with pytest.raises(UserError, match="no picture has a base"):
        moved(SampleSet("f", tuple(samples[:1]), np.zeros((1, 48)), np.ones((1, 2), np.float32)))


def test_an_output_that_was_rendered_so_is_measured_and_shown(tmp_path: Path) -> None:
    made = outputs.build(tmp_path / "out", tmp_path / "keys")
    writer, issuer = LogWriter.open(made.storage, outputs.JOB, made.signer), credential.Issuer(made.keys)
    kinds = (BASE, PARAPHRASE, NOISE)
    tagged = [(("fragility.row", "a"), ("fragility.kind", kind)) for kind in kinds]
    records = [replace(outputs.attempt_record(10 + at), tags=tags) for at, tags in enumerate(tagged)]
    writer.append([outputs.plan_record(9, outputs.job_json()), *(outputs.stored_attempt(made, issuer, record) for record in records)])
    found = evaluate_fragility(str(tmp_path / "out"), encoders.clip(tmp_path / "clip"))
    assert (found.rows, found.pictures) == (1, 7)
    assert {figure.name for figure in found.figures} == {"moved:paraphrase", "moved:other noise", "fragility"}
    assert all(figure.low is None for figure in found.figures)
    assert found.as_json()["moved"][0]["base_prompt"].startswith("A photograph of mug 10")
    write_page(tmp_path / "page.html", found)
    assert (tmp_path / "page.html").read_text().count("data:image/webp") == 2
    assert any("no interval, 1 rows" in line for line in found.lines())


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--fragility", "{job.yaml}"], "there is nothing to compare pictures by"),
        (["--fragility", "{job.yaml}", "--features", "{none}"], "no weights with a config.json"),
        (["--fragility", "{job.yaml}", "--features", "{clip}", "--by", "sku"], "--by: this does not go with --fragility"),
        (["--fragility", "{none.yaml}", "--features", "{clip}"], "none.yaml"),
        (["{out}", "--fragility", "{job.yaml}", "--features", "{clip}"], "this is the job's own output"),
        (["s3://bucket/x", "--fragility", "{job.yaml}", "--features", "{clip}"], "a bucket cannot hold these pictures"),
        (["{out}", "--rows", "3"], "--rows: this goes with --fragility"),
        (["{out}", "--set", "seed=3"], "--set: this goes with --fragility"),
        ([], "no output named"),
    ],
)
def test_what_cannot_be_asked_is_one_message(args: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job_of(tmp_path)
    if "{clip}" in args:
        encoders.dino(tmp_path / "clip")
    given = [str(tmp_path / arg[1:-1]) if arg.startswith("{") else arg for arg in args]
    capsys.readouterr()
    assert main(["evaluate", *given]) == 2
    assert what in capsys.readouterr().err
