"""How a run is watched: who is told, what it may use up, where its metrics are. No picture depends on it, so none of it is in job.json."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from renderfarm.job.section import Section, same
from renderfarm.job.variables import Variable

Event = Literal["done", "paused", "failed", "budget"]
EVENTS: tuple[Event, ...] = ("done", "paused", "failed", "budget")


def _retries(tries: object) -> object:
    """Tries, in whichever form settings may hold a number, less the first."""
    try:
        return TypeAdapter(int).validate_python(tries) - 1
    except ValidationError:
        return tries


class NotifySettings(Section):
    """Who is told. URL and token are secrets: the job names the environment variables that hold them."""

    respelled = (("timeout_seconds", "timeout_s", same), ("tries", "retries", _retries))
    webhook_env: Variable = Field(None, description="environment variable with the URL that a JSON message is posted to; none: no webhook")
    token_env: Variable = Field(None, description="environment variable with a bearer token for it")
    command: tuple[str, ...] = Field((), description="program and arguments; reads the same JSON message on stdin; no shell")
    events: tuple[Event, ...] = Field(EVENTS, description="when: done, paused (goes on later), failed, budget (one was crossed)")
    timeout_s: float = Field(10.0, gt=0, le=120, description="of one try to post, and of the command")
    retries: int = Field(2, ge=0, le=9, description="further tries to post")

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError("write a list: [program, argument, …]; no shell takes it apart")
        return value


class BudgetSettings(Section):
    """What may be used up: by one run, counted anew in every window, or by the job with all its runs so far."""

    rejects: int | None = Field(None, ge=1, description="attempts that the checks reject")
    failures: int | None = Field(None, ge=1, description="images that cannot be rendered")
    in_a_row: int | None = Field(
        8, ge=1, description="images that fail one after another by the farm's fault, with none rendered between; they stay as they were"
    )
    hours: float | None = Field(None, gt=0, allow_inf_nan=False, description="hours of rendering")
    money: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="renderers (or the machine, without a GPU) × hours × cost.per_hour",
    )
    per: Literal["run", "job"] = Field(
        "run", description="run: counted anew by every run (every window); job: what earlier runs used up, by the log, counts too"
    )
    then: Literal["pause", "notify"] = Field("pause", description="when one is crossed: drain and exit 75, or only tell")


class MetricsSettings(Section):
    """Prometheus metrics and /healthz while a job renders."""

    port: int | None = Field(None, ge=0, le=65535, description="TCP port of /metrics and /healthz; 0: any free one; none: no server")
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 lets other machines scrape")
