"""TrustMark's adapter, with two small networks that are written here and really loaded: the makers' weights are not on this disk.

What is not tested so: how well the real networks mark and read. The stand-ins show a bit as the brightness of one of 10 x 10
fields; what is checked is everything that is ours: loading, the key's mask, the code, the bound, the parts of long pictures.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from renderfarm.cli import main
from renderfarm.errors import MarkUnsupported, UserError, WeightsError
from renderfarm.watermark import MarkKey, Payload, code, method, read
from renderfarm.watermark.detect import FALSE_ALARM
from renderfarm.watermark.trustmark import BITS, TrustMark, chance, errors_max

KEY = MarkKey.from_bytes(b"a key for the tests only")
OTHER = MarkKey.from_bytes(b"another key, also of tests")
PAYLOAD = Payload(1, "0123456789a")
Picture = NDArray[np.uint8]


# -- ONNX, as far as the stand-ins need it: https://onnx.ai/onnx/api/classes.html, protocol buffers by hand -----------


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def tensor(name: str, values: NDArray[np.generic]) -> bytes:
    kind = {"float32": 1, "int64": 7}[values.dtype.name]
    return b"".join(number(1, side) for side in values.shape) + number(2, kind) + message(8, name.encode()) + message(9, values.tobytes())


def attribute(stated: list[int] | int) -> list[bytes]:
    return [number(3, stated), number(20, 2)] if isinstance(stated, int) else [*(number(8, i) for i in stated), number(20, 7)]


def node(kind: str, given: list[str], made: str, **stated: list[int] | int) -> bytes:
    attributes = [message(5, message(1, k.encode()), *attribute(v)) for k, v in stated.items()]
    return (
        b"".join(message(1, name.encode()) for name in given) + message(2, made.encode()) + message(4, kind.encode()) + b"".join(attributes)
    )


def value(name: str, shape: list[int]) -> bytes:
    sides = b"".join(message(1, number(1, side)) for side in shape)
    return message(1, name.encode()) + message(2, message(1, number(1, 1), message(2, sides)))


def network(nodes: list[bytes], constants: list[bytes], given: list[bytes], made: bytes) -> bytes:
    parts = [message(1, n) for n in nodes] + [message(2, b"stand-in")] + [message(5, c) for c in constants]
    graph = parts + [message(11, g) for g in given] + [message(12, made)]
    return number(1, 8) + message(7, *graph) + message(8, message(1, b""), number(2, 13))


def write_weights(folder: Path, variant: str = "Q", depth: float = 0.06, tint: float = 0.0, answers: int = BITS) -> Path:
    """Both stand-ins. The encoder draws each bit `depth` of -1..1 above or below the picture, and all of it `tint` brighter; the decoder
    answers with this many of the fields."""
    folder.mkdir(parents=True, exist_ok=True)
    ones, fields = np.ones((1, 3, 25, 25), np.float32), np.array([1, 1, 10, 10])
    encoder = network(
        [
            node("Reshape", ["bits", "fields"], "grid"),
            node("Sub", ["grid", "half"], "signed"),
            node("ConvTranspose", ["signed", "faint"], "drawn", strides=[25, 25]),
            node("Pad", ["drawn", "margin"], "padded"),
            node("Add", ["padded", "tint"], "tinted"),
            node("Add", ["picture", "tinted"], "image"),
        ],
        [
            tensor("fields", fields),
            tensor("half", np.array([0.5], np.float32)),
            tensor("faint", ones * np.float32(2 * depth)),
            tensor("tint", np.array([tint], np.float32)),
            tensor("margin", np.array([0, 0, 3, 3, 0, 0, 3, 3])),
        ],
        [value("picture", [1, 3, 256, 256]), value("bits", [1, BITS])],
        value("image", [1, 3, 256, 256]),
    )
    decoder = network(
        [
            node("Pad", ["image", "cut"], "middle"),
            node("Conv", ["middle", "mean"], "grid", strides=[25, 25]),
            node("Reshape", ["grid", "row"], "all"),
            node("Gather", ["all", "first"], "output", axis=1),
        ],
        [
            tensor("cut", np.array([0, 0, -3, -3, 0, 0, -3, -3])),
            tensor("mean", ones / np.float32(1875)),
            tensor("row", np.array([1, BITS])),
            tensor("first", np.arange(answers) % BITS),
        ],
        [value("image", [1, 3, 256, 256])],
        value("output", [1, answers]),
    )
    (folder / f"encoder_{variant}.onnx").write_bytes(encoder)
    (folder / f"decoder_{variant}.onnx").write_bytes(decoder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


def grey(height: int = 300, width: int = 400) -> Picture:
    return np.full((height, width, 3), 128, np.uint8)


def test_marks_and_reads_a_batch_under_one_key_only(weights: Path) -> None:
    chosen = method("trustmark", weights)
    assert chosen.name == "trustmark-q"
    pictures = np.stack([grey(), grey()])
    payloads = [PAYLOAD, Payload(3, "fffffffffff")]
    marked = chosen.embed(pictures, payloads, KEY)
    assert marked.dtype == np.uint8 and marked.shape == pictures.shape and (pictures == 128).all()
    assert 30 < 10 * np.log10(255**2 / np.mean((marked.astype(np.float64) - 128) ** 2)) < 45
    for picture, payload in zip(marked, payloads, strict=True):
        reading = chosen.read(picture, [OTHER, KEY])
        assert reading.payload == payload and reading.key_id == KEY.key_id and reading.confidence > 0.99
        assert not chosen.read(picture, [OTHER]).present
        assert not read(picture, [KEY], search="fast").present, "the tile's reader finds no tile"
    assert not chosen.read(pictures[0], [KEY, OTHER]).present


def test_reads_mirrored_resized_grey_and_with_alpha(weights: Path) -> None:
    chosen = TrustMark.load(weights)
    marked = chosen.embed(grey()[None], [PAYLOAD], KEY)[0]
    mirrored = chosen.read(np.ascontiguousarray(marked[:, ::-1]), [KEY])
    assert mirrored.payload == PAYLOAD and mirrored.geometry is not None and mirrored.geometry.flipped
    half = np.asarray(Image.fromarray(marked).resize((200, 150)))
    for picture in (half, marked[..., 1], np.dstack([marked, marked[..., 0]])):
        assert chosen.read(picture, [KEY]).payload == PAYLOAD
    tensors = chosen.embed(torch.from_numpy(grey()[None]), [PAYLOAD], KEY)
    assert np.array_equal(tensors[0].numpy(), marked)


def test_the_middle_square_of_a_long_picture_is_marked(weights: Path, tmp_path: Path) -> None:
    marked = TrustMark.load(weights).embed(grey(256, 700)[None], [PAYLOAD], KEY)[0]
    changed = np.flatnonzero((marked != 128).any((0, 2)))
    assert changed.min() >= 222 and changed.max() < 478
    assert TrustMark.load(weights).read(marked, [KEY]).payload == PAYLOAD
    perceptual = TrustMark.load(write_weights(tmp_path / "p", "P"))
    changed = np.flatnonzero((perceptual.embed(grey()[None], [PAYLOAD], KEY)[0] != 128).any((0, 2)))
    assert changed.min() >= 50 and changed.max() < 350


def test_a_picture_is_marked_to_the_middle_up_to_twice_as_long_as_high(weights: Path) -> None:
    chosen = TrustMark.load(weights)
    whole, middle = (np.flatnonzero((chosen.embed(grey(256, w)[None], [PAYLOAD], KEY)[0] != 128).any((0, 2))) for w in (512, 513))
    assert whole.min() < 10 and whole.max() > 501 and middle.min() >= 128 and middle.max() < 128 + 256


def fields(picture: Picture) -> NDArray[np.uint8]:
    """uint8 (100,): the bits that the stand-in's fields show in a picture of 256 x 256 that was grey."""
    return (picture[3:253, 3:253].reshape(10, 25, 10, 25, 3).mean((1, 3, 4)) > 128).astype(np.uint8).ravel()


def test_what_is_drawn_is_the_sealed_word_under_the_keys_own_mask(weights: Path) -> None:
    chosen = TrustMark.load(weights)
    shown = {}
    for key in (KEY, OTHER):
        shown[key.key_id] = fields(chosen.embed(grey(256, 256)[None], [PAYLOAD], key)[0])
        word = code.encode(PAYLOAD.sealed(key))[:BITS]
        mask = shown[key.key_id] ^ word
        again = fields(chosen.embed(grey(256, 256)[None], [Payload(9, "00000000001")], key)[0])
        assert np.array_equal(again ^ code.encode(Payload(9, "00000000001").sealed(key))[:BITS], mask), "the mask is the key's alone"
        assert 30 <= int(mask.sum()) <= 70
        shown[key.key_id] = mask
    assert 30 <= int((shown[KEY.key_id] ^ shown[OTHER.key_id]).sum()) <= 70, "another key's mask is another one"


def test_the_change_has_no_tint_is_bounded_and_is_a_quarter_more_for_p(tmp_path: Path) -> None:
    changes = {}
    for variant, depth, tint in (("Q", 0.06, 0.0), ("Q", 0.06, 0.3), ("Q", 0.6, 0.0), ("P", 0.06, 0.0)):
        chosen = TrustMark.load(write_weights(tmp_path / f"{variant}{depth}{tint}", variant, depth, tint))
        changes[variant, depth, tint] = chosen.embed(grey(256, 256)[None], [PAYLOAD], KEY)[0].astype(int) - 128
    plain = changes["Q", 0.06, 0.0]
    assert np.abs(changes["Q", 0.06, 0.3] - plain).max() <= 1, "what brightens all of it is taken off"
    assert 5 <= np.abs(plain).max() <= 10 and np.abs(changes["Q", 0.6, 0.0]).max() == round(0.2 * 127.5)
    ratio = np.abs(changes["P", 0.06, 0.0]).sum() / np.abs(plain).sum()
    assert 1.1 < ratio < 1.4


@pytest.mark.parametrize(("keys", "forgiven"), [(1, 5), (3, 4)])
def test_wrong_bits_are_forgiven_up_to_the_bound_for_so_many_keys(weights: Path, keys: int, forgiven: int) -> None:
    chosen = TrustMark.load(weights)
    given = [KEY, *(MarkKey.from_bytes(bytes([k]) * 16) for k in range(1, keys))]
    marked = chosen.embed(grey(256, 256)[None], [PAYLOAD], KEY)[0]
    present = []
    for wrong in range(8):
        picture = marked.copy()
        for field in range(wrong):  # a field turned about the middle grey shows the other bit
            y, x = 3 + 25 * (field * 3 % 10), 3 + 25 * field
            picture[y : y + 25, x : x + 25] = 256 - picture[y : y + 25, x : x + 25].astype(int)
        assert int((fields(picture) != fields(marked)).sum()) == wrong
        reading = chosen.read(picture, given)
        assert reading.payload in (None, PAYLOAD) and reading.false_alarm == FALSE_ALARM
        assert reading.confidence > 0.5 if reading.present else reading.confidence == 0
        present.append(reading.present)
    assert present == [wrong <= forgiven for wrong in range(8)]


def test_the_bound_is_below_the_false_alarm_rate_for_any_number_of_keys() -> None:
    assert (errors_max(1), errors_max(2), errors_max(3), errors_max(55)) == (5, 5, 4, 4)
    for keys in (1, 2, 3, 55, 56, 1000, 10**9):
        assert errors_max(keys) < 0 or chance(errors_max(keys), keys) <= FALSE_ALARM < chance(errors_max(keys) + 1, keys)
    assert chance(0, 1) == 2 * 2.0**-52


def test_random_pictures_read_as_absent_however_many_keys_are_tried(weights: Path) -> None:
    chosen, rng = TrustMark.load(weights), np.random.default_rng(0)
    keys = [MarkKey.from_bytes(rng.bytes(16)) for _ in range(20)]
    assert not any(chosen.read(rng.integers(0, 256, (256, 256, 3), np.uint8), keys).present for _ in range(5))


def test_refuses_small_pictures_and_those_that_do_not_read_back(weights: Path) -> None:
    chosen = TrustMark.load(weights)
    with pytest.raises(MarkUnsupported, match="short side of at least 256"):
        chosen.embed(grey(255, 400)[None], [PAYLOAD], KEY)
    with pytest.raises(MarkUnsupported, match="that reads back"):
        chosen.embed(np.full((1, 256, 256, 3), 255, np.uint8), [PAYLOAD], KEY)


def test_missing_and_unusable_weights_are_named_and_never_fetched(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no TrustMark weights") as caught:
        method("trustmark", tmp_path)
    assert str(tmp_path) in str(caught.value) and "never fetched" in caught.value.remedy
    with pytest.raises(UserError, match="needs its weights"):
        method("trustmark")
    with pytest.raises(UserError, match="has no weights"):
        method("renderfarm-tile", tmp_path)
    with pytest.raises(UserError, match="no watermark method 'dct'"):
        method("dct")
    write_weights(tmp_path)
    (tmp_path / "decoder_Q.onnx").write_bytes(struct.pack("<I", 7))
    with pytest.raises(WeightsError, match="not a network") as caught:
        method("trustmark", tmp_path)
    assert "decoder_Q.onnx" in caught.value.where
    (tmp_path / "decoder_Q.onnx").write_bytes((tmp_path / "encoder_Q.onnx").read_bytes())
    with pytest.raises(WeightsError, match="no TrustMark network: it takes"):
        method("trustmark", tmp_path)


@pytest.mark.parametrize("answers", [32, 99, 101, 200])
def test_networks_that_answer_with_something_else_are_refused_before_a_picture_is_read(tmp_path: Path, answers: int) -> None:
    write_weights(tmp_path, answers=answers)
    with pytest.raises(WeightsError, match=rf"answers with \[1, {answers}\] numbers, not 100 finite ones") as caught:
        TrustMark.load(tmp_path)
    assert caught.value.where == str(tmp_path / "decoder_Q.onnx") and "of one variant" in caught.value.remedy


def test_networks_that_fail_or_answer_with_no_numbers_are_refused(tmp_path: Path) -> None:
    write_weights(tmp_path / "nan", tint=float("nan"))
    with pytest.raises(WeightsError, match="not 196608 finite ones") as caught:
        TrustMark.load(tmp_path / "nan")
    assert caught.value.where.endswith("encoder_Q.onnx")
    folder = write_weights(tmp_path / "side")
    decoder = (folder / "decoder_Q.onnx").read_bytes()
    taken, other = value("image", [1, 3, 256, 256]), value("image", [1, 3, 258, 256])  # what it says of its input, and does not take
    assert decoder.count(taken) == 1 and len(taken) == len(other)
    (folder / "decoder_Q.onnx").write_bytes(decoder.replace(taken, other))
    with pytest.raises(WeightsError) as caught:
        TrustMark.load(folder)
    assert caught.value.where.endswith("decoder_Q.onnx") and caught.value.remedy


def test_the_commands_take_the_method(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, source = tmp_path / "mark.key", tmp_path / "grey.png"
    key.write_text("00112233445566778899aabbccddeeff\n")
    Image.fromarray(grey()).save(source)
    chosen = ["--key-file", str(key), "--method", "trustmark", "--weights", str(weights)]
    assert main(["watermark", "embed", str(source), "--id", "0123456789a", "-o", str(tmp_path / "out"), *chosen]) == 0
    marked = capsys.readouterr().out.strip()
    assert main(["watermark", "read", marked, "--json", *chosen]) == 0
    assert json.loads(capsys.readouterr().out)["payload"]["record"] == "0123456789a"
    assert main(["watermark", "read", marked, "--key-file", str(key)]) == 5
    assert main(["watermark", "read", marked, *chosen[:4], "--weights", str(tmp_path)]) == 2
    assert "no TrustMark weights" in capsys.readouterr().err
