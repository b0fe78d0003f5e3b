"""Audit and identify on a real Ray cluster: the same answers as in this process, and no key on the way."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from renderfarm.audit.audit import audit
from renderfarm.audit.fanout import Cores, FanOut
from renderfarm.audit.pictures import Beliefs, check_objects
from renderfarm.errors import JobError, UserError
from renderfarm.farm.spread import on_cluster, spread
from renderfarm.identify.identify import identify_all, pictures_in
from renderfarm.output import PARTS, part_key
from renderfarm.pictures import decode, encode
from renderfarm.storage import LocalStorage
from renderfarm.storage.base import Stored
from tests import outputs
from tests.outputs import Output


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("spread")
    made = outputs.build(base / "out", base / "keys")
    picture = next(made.folder.glob(f"{outputs.place(1)}*"))
    data = bytearray(picture.read_bytes())
    data[-30] ^= 1
    picture.write_bytes(data)
    broken = made.folder / part_key(3)
    broken.write_bytes(broken.read_bytes()[:-9])
    return made


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    for start in range(3):  # a raylet may miss its fixed 30 s on a loaded machine
        try:
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
            break
        except (RuntimeError, OSError, TimeoutError):
            ray.shutdown()
            assert start < 2
    yield
    ray.shutdown()


class Vast(LocalStorage):
    """A folder whose parts look large enough to be spread."""

    def list(self, prefix: str) -> Iterator[Stored]:
        for found in super().list(prefix):
            yield found._replace(size=1 << 30) if found.key.startswith(PARTS) else found


class Split:
    """A fan-out that gets small chunks, so that there are several; counts them by task."""

    def __init__(self, fan_out: FanOut) -> None:
        self.fan_out, self.chunks = fan_out, Counter[str]()

    def __call__(self, task: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
        return self.fan_out(task, self.counted(type(task).__name__, chunks))

    def counted(self, name: str, chunks: Iterable[Any]) -> Iterator[Any]:
        for chunk in chunks:
            for at in range(0, len(chunk), 2):
                self.chunks[name] += 1
                yield chunk[at : at + 2]


def assert_same_audit(output: Output, fan_out: FanOut) -> None:
    expected, split = audit(output.storage, output.trust).as_dict(), Split(fan_out)
    check_many = partial(check_objects, fan_out=split, here_max=0)
    found = audit(Vast(output.folder, create=False), output.trust, check_many=check_many, fan_out=split).as_dict()
    assert split.chunks["ExamineParts"] == 3 and split.chunks["CheckObjects"] >= 2
    assert {**found, "elapsed_s": 0} == {**expected, "elapsed_s": 0}
    assert set(found["found"]) == {"object-altered", "part-altered"}


def assert_same_answers(output: Output, fan_out: FanOut) -> None:
    """Of pictures as they are, and of one that is only like a record's; the part that is broken is a note in each that led anywhere.

    Whether the flipped byte leaves row-1 a picture that can be read depends on its mark's key.
    """
    pictures = list(pictures_in(output.folder / "images"))
    whole = next(path for path in pictures if not path.name.startswith(outputs.image_id(1)))
    bare = encode(decode(whole.read_bytes()), "image/png")
    asked = [*pictures, ("bare", bare)]
    here = [answer.as_json() for answer in identify_all(asked, [output.storage], output.trust)]
    split = Split(fan_out)
    there = [answer.as_json() for answer in identify_all(asked, [Vast(output.folder, create=False)], output.trust, split, here_max=1)]
    assert split.chunks["Look"] >= 2 and split.chunks["ScanParts"] >= 3
    assert here == there and len(there) == 5
    led = [answer for answer in there if answer["by"] is not None]
    assert {answer["by"] for answer in led} >= {"credential", "watermark"} and len(led) >= 4
    assert all("part-altered" in answer["notes"][0] for answer in led)


def test_the_audit_says_the_same_from_processes(output: Output) -> None:
    with Cores(2) as cores:
        assert_same_audit(output, cores)
        assert_same_answers(output, cores)


def test_the_audit_says_the_same_from_a_cluster(output: Output, cluster: None) -> None:
    assert_same_audit(output, spread)
    assert_same_answers(output, spread)


def test_a_trouble_in_a_task_is_raised_as_itself(cluster: None) -> None:
    def refuse(chunk: object) -> object:
        raise UserError("no", "there", "mend it")

    with pytest.raises(UserError, match="mend it"):
        list(spread(refuse, [1]))


def test_no_key_travels(output: Output, tmp_path: Path) -> None:
    beliefs = Beliefs.of(output.trust)
    data = pickle.dumps(beliefs)
    assert len(data) < 300 and pickle.loads(data) == beliefs
    copy = tmp_path / "trust"
    shutil.copytree(output.keys.folder / "trust", copy)
    assert beliefs.mark_keys and all(key.key_id.encode() not in data for key in beliefs.mark_keys)


def test_an_address_where_nobody_answers_is_one_message() -> None:
    with pytest.raises(JobError, match=r"--address 127\.0\.0\.1:1: nobody answers there"), on_cluster("127.0.0.1:1"):
        raise AssertionError("unreachable")
