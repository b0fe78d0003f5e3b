"""The prompts that are remembered hold no more memory than was meant, whatever one of them takes."""

from __future__ import annotations

import pytest
import torch

from renderfarm.models import LoadedModel, ModelSettings, resolve
from renderfarm.render import Renderer
from renderfarm.render.stages import ENCODED_BYTES_MAX, PromptCache, encode_one, held_bytes
from tests.standins import folder_of


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    settings = ModelSettings.model_validate({"weights": str(folder_of("sd2")), "device": "cpu"})
    return Renderer(resolve(settings), settings).model


def names(cache: PromptCache) -> list[str]:
    return [prompt for prompt, *_ in cache.entries]


def test_the_least_recently_used_prompt_goes_when_the_bytes_are_full(model: LoadedModel) -> None:
    one = held_bytes(encode_one(model, "a", negative=False))
    cache = PromptCache(model, bytes_max=3 * one + one // 2)
    for prompt in ("a", "b", "c", "a", "d"):
        cache.encode(prompt, None, negative=False)
        assert cache.held == sum(map(held_bytes, cache.entries.values())) <= cache.bytes_max
    assert names(cache) == ["c", "a", "d"]
    kept = cache.encode("c", None, negative=False)
    assert cache.encode("c", None, negative=False) is kept, "it is not encoded again"
    again = cache.encode("b", None, negative=False)
    assert names(cache) == ["d", "c", "b"]
    for got, fresh in zip(again, encode_one(model, "b", negative=False), strict=True):
        assert torch.equal(got, fresh)


def test_a_prompt_that_is_larger_than_all_room_is_given_and_not_kept(model: LoadedModel) -> None:
    cache = PromptCache(model, bytes_max=held_bytes(encode_one(model, "a", negative=False)) - 1)
    given = cache.encode("a", None, negative=False)
    assert (cache.held, names(cache)) == (0, [])
    for got, fresh in zip(given, encode_one(model, "a", negative=False), strict=True):
        assert torch.equal(got, fresh)


def test_what_a_view_keeps_alive_is_counted_and_once() -> None:
    whole = torch.zeros(4, 1000)
    assert held_bytes((whole[:1],)) == 16_000
    assert held_bytes((whole[:1], whole[1:2], torch.zeros(10, dtype=torch.float16))) == 16_020


def test_a_renderer_remembers_a_quarter_of_a_gigabyte(model: LoadedModel) -> None:
    """FLUX: 512 tokens of 4096 and one pooled vector of 768, in bfloat16."""
    assert PromptCache(model).bytes_max == ENCODED_BYTES_MAX == 268_435_456
    flux = (torch.zeros(1, 512, 4096, dtype=torch.bfloat16), torch.zeros(1, 768, dtype=torch.bfloat16))
    assert ENCODED_BYTES_MAX // held_bytes(flux) == 63
