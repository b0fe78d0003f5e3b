"""The watermark: every payload, size and drawn picture reads back; what must not read, does not."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from renderfarm.errors import KeysError, MarkUnsupported, UserError
from renderfarm.watermark import VERSIONS, MarkKey, Payload, carrier, embed, embedder, read, supported

KEY = MarkKey.from_bytes(b"a key for the tests only")
OTHER = MarkKey.from_bytes(b"another key, also of tests")
Picture = NDArray[np.uint8]
KINDS = ("poster", "gradient", "logo", "dark", "noise", "photo")


def draw(kind: str, height: int, width: int, seed: int = 0) -> Picture:
    """uint8 (H, W, 3): a picture of a kind that customers make."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if kind == "gradient":
        ends = rng.uniform(0, 255, (2, 3))
        t = ((x / width + y / height) / 2)[..., None]
        out = ends[0] * (1 - t) + ends[1] * t
    elif kind == "noise":
        out = rng.normal(128, 40, (height, width, 3))
    elif kind == "photo":  # a 1/f spectrum
        f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) + 1 / max(height, width)
        white = np.fft.fft2(rng.normal(size=(height, width)))
        plane = np.fft.ifft2(white / f).real
        out = 128 + 55 * np.repeat((plane / plane.std())[..., None], 3, 2)
    else:
        ground = {"poster": rng.uniform(40, 220, 3), "logo": np.full(3, 255.0), "dark": np.full(3, 12.0)}[kind]
        out = np.tile(ground, (height, width, 1))
        top = 40 if kind == "dark" else 255
        for _ in range(4):
            cy, cx, r = (
                rng.uniform(0.2, 0.8) * height,
                rng.uniform(0.2, 0.8) * width,
                rng.uniform(0.05, 0.2) * min(height, width),
            )
            out[np.hypot(y - cy, x - cx) < r] = rng.uniform(0, top, 3)
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


def mark(picture: Picture, record: str = "0123456789a", key: MarkKey = KEY) -> Picture:
    return embed(picture[None], [Payload(1, record)], key)[0]


def jpeg(picture: Picture, quality: int) -> Picture:
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(256, 420),
    width=st.integers(256, 420),
    seed=st.integers(0, 2**16),
    version=st.integers(0, 15),
    record=st.integers(0, 2**44 - 1),
    layout=st.sampled_from(VERSIONS),
)
def test_reads_back_every_payload_size_and_picture(
    kind: str, height: int, width: int, seed: int, version: int, record: int, layout: int
) -> None:
    payload = Payload(version, f"{record:011x}")
    marked = embed(draw(kind, height, width, seed)[None], [payload], KEY, version=layout)[0]
    reading = read(marked, [KEY], search="fast")
    assert reading.present and reading.payload == payload and reading.key_id == KEY.key_id and reading.version == layout
    assert read(marked, [OTHER], search="fast").payload is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [256, 512])
def test_survives_jpeg_75_and_stays_above_41_db(kind: str, side: int) -> None:
    picture = draw(kind, side, side)
    marked = mark(picture)
    error = np.mean((marked.astype(np.float64) - picture) ** 2)
    assert 10 * np.log10(255**2 / error) >= 41
    assert read(jpeg(marked, 75), [KEY], search="fast").payload == Payload(1, "0123456789a")


def test_survives_what_people_do_and_says_what_was_done() -> None:
    marked = mark(data.astronaut())
    turn = cv2.getRotationMatrix2D((255.5, 255.5), 4.3, 1)
    cases = {
        "half": (cv2.resize(marked, (256, 256), interpolation=cv2.INTER_AREA), 1.0, 0.0, False),
        "larger": (cv2.resize(marked, (707, 707), interpolation=cv2.INTER_CUBIC), 1.0, 0.0, False),
        "flip": (np.ascontiguousarray(marked[:, ::-1]), 1.0, 0.0, True),
        "crop": (np.ascontiguousarray(marked[40:470, 70:500]), 430 / 512, 0.0, False),
        "border": (np.pad(marked, ((40, 40), (40, 40), (0, 0)), constant_values=255), 592 / 512, 0.0, False),
        "turned": (cv2.warpAffine(marked, turn, (512, 512)), 1.0, 4.3, False),
    }
    for name, (picture, scale, rotation, flipped) in cases.items():
        reading = read(picture, [OTHER, KEY])
        assert reading.payload == Payload(1, "0123456789a"), name
        assert reading.geometry is not None and reading.geometry.flipped == flipped, name
        assert reading.geometry.scale == pytest.approx(scale, rel=0.01), name
        assert reading.geometry.rotation_deg == pytest.approx(rotation, abs=0.3), name


def test_a_small_render_reads_back_cropped_by_a_tenth_a_side() -> None:
    photo = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    for kind, picture in (("photo", photo), ("poster", draw("poster", 256, 256)), ("gradient", draw("gradient", 256, 256))):
        marked = mark(picture)
        assert read(np.ascontiguousarray(marked[26:-26, 26:-26]), [KEY]).payload == Payload(1, "0123456789a"), kind


def test_grey_and_alpha_and_non_square_read() -> None:
    marked = mark(draw("photo", 256, 700))
    alpha = np.concatenate([marked, np.full((256, 700, 1), 200, np.uint8)], 2)
    grey = cv2.cvtColor(marked, cv2.COLOR_RGB2GRAY)
    for picture in (alpha, grey):
        assert read(picture, [KEY], search="fast").present


def test_a_wrong_key_and_an_unmarked_picture_read_as_absent() -> None:
    picture = draw("photo", 256, 256)
    for candidate, key in ((picture, KEY), (mark(picture), OTHER)):
        reading = read(candidate, [key])
        assert not reading.present and reading.payload is None and reading.key_id is None
        assert reading.confidence < 0.5 and reading.false_alarm <= 1e-6


def test_a_batch_is_marked_each_with_its_own_payload_and_in_place_of_nothing() -> None:
    pictures = torch.from_numpy(np.stack([draw("photo", 256, 320, i) for i in range(3)]))
    before = pictures.clone()
    payloads = [Payload(0, f"{i:011x}") for i in range(3)]
    marked = embed(pictures, payloads, KEY)
    assert torch.equal(pictures, before) and marked.dtype == torch.uint8 and marked.shape == pictures.shape
    assert [read(m.numpy(), [KEY], search="fast").payload for m in marked] == payloads


def test_pixels_may_lie_in_any_order_and_be_read_only() -> None:
    pictures, payloads = np.stack([draw("photo", 256, 320), draw("poster", 256, 320)]), [Payload(1, "0123456789a")] * 2
    marked = embed(pictures, payloads, KEY)
    planar = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).permute(0, 2, 3, 1)
    wider = torch.from_numpy(np.pad(pictures, ((0, 0), (0, 0), (0, 7), (0, 1))))[:, :, :320, :3]
    for laid_out in (planar, wider):
        assert not laid_out.is_contiguous() and np.array_equal(embed(laid_out, payloads, KEY).numpy(), marked)
    mirrored = embed(pictures[:, :, ::-1], payloads, KEY)
    assert np.array_equal(mirrored, embed(pictures[:, :, ::-1].copy(), payloads, KEY))
    pictures.flags.writeable = False
    assert np.array_equal(embed(pictures, payloads, KEY), marked)


@pytest.mark.parametrize(("height", "width"), [(256, 320), (301, 257), (512, 512)])
def test_a_picture_gets_the_same_pixels_in_any_batch(height: int, width: int) -> None:
    pictures = torch.from_numpy(np.stack([draw(kind, height, width) for kind in ("photo", "poster", "noise", "logo", "photo")]))
    payloads = [Payload(0, f"{i:011x}") for i in range(5)]
    whole = embed(pictures, payloads, KEY)
    for start, stop in ((0, 1), (1, 3), (2, 5), (4, 5)):
        assert torch.equal(embed(pictures[start:stop], payloads[start:stop], KEY), whole[start:stop])


@pytest.mark.parametrize(("height", "width", "period"), [(512, 512, 128), (384, 384, 96), (768, 768, 192), (256, 1024, 128), (300, 511, 0)])
def test_the_pattern_is_the_sum_of_its_cosines_at_every_pixel(height: int, width: int, period: int) -> None:
    grid, rng = carrier.lattice(), np.random.default_rng(3)
    coefficients = (rng.normal(size=(1, len(grid.ky))) + 1j * rng.normal(size=(1, len(grid.ky)))).astype(np.complex64)
    one = embedder.pattern(torch.from_numpy(coefficients), height, width)[0].numpy()
    assert one.shape == ((period, period) if period else (height, width))
    whole = np.tile(one, (height // one.shape[0], width // one.shape[1]))
    scale = carrier.canonical_scale(height, width)
    for y, x in [(0, 0), (height - 1, width - 1), (height // 2, 7), (131, width - 2)]:
        place = grid.ky * (y - (height - 1) / 2) + grid.kx * (x - (width - 1) / 2)
        wave = np.exp(2j * np.pi * place * scale / carrier.TILE)
        assert whole[y, x] == pytest.approx((coefficients[0] * wave).sum().real, abs=1e-3)


def test_refuses_what_cannot_carry_a_mark_and_says_why() -> None:
    assert supported(256, 4000) and not supported(255, 4000)
    with pytest.raises(MarkUnsupported, match="short side of at least 256"):
        mark(draw("photo", 255, 512))
    tiny = np.full((256, 256, 3), 255, np.uint8)
    reading = None
    try:
        reading = read(mark(tiny), [KEY], search="fast")
    except MarkUnsupported as refusal:
        assert "saturated" in str(refusal)
    assert reading is None or reading.present, "an all-white picture is marked readably or refused"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cell=st.sampled_from([1, 2, 4, 8, 16, 64]), channels=st.sampled_from([1, 3]), side=st.integers(256, 400), seed=st.integers(0, 99))
def test_a_picture_saturated_all_over_is_marked_readably_or_refused(cell: int, channels: int, side: int, seed: int) -> None:
    cells = np.random.default_rng(seed).integers(0, 2, (-(-side // cell), -(-side // cell), channels)).astype(np.uint8) * 255
    picture = np.broadcast_to(cells.repeat(cell, 0).repeat(cell, 1)[:side, :side], (side, side, 3)).copy()
    try:
        marked = mark(picture)
    except MarkUnsupported as refusal:
        assert "saturated or noisy all over" in str(refusal) and cell <= 16
        return
    assert read(marked, [KEY], search="fast").present


def test_black_and_white_noise_is_refused() -> None:
    noise = np.random.default_rng(2).integers(0, 2, (256, 256, 3)).astype(np.uint8) * 255
    with pytest.raises(MarkUnsupported, match="picture 1 of the batch is saturated"):
        embed(np.stack([draw("photo", 256, 256), noise]), [Payload(1, "0123456789a")] * 2, KEY)


def test_a_quarter_of_a_busy_picture_reads_by_its_colours() -> None:
    marked = mark(np.ascontiguousarray(np.repeat(data.grass()[..., None], 3, 2)))
    quarter = np.ascontiguousarray(marked[128:-128, 128:-128])
    assert read(quarter, [KEY]).payload == Payload(1, "0123456789a")
    assert not read(quarter, [OTHER]).present
    assert not read(cv2.cvtColor(quarter, cv2.COLOR_RGB2GRAY), [KEY]).present, "luminance alone does not hold it"


def test_keys_hide_their_secret_and_refuse_bad_ones() -> None:
    assert "tests only" not in repr(KEY) and len(KEY.key_id) == 8
    assert MarkKey.from_hex(" 00112233445566778899aabbccddeeff\n") == MarkKey.from_bytes(bytes.fromhex("00112233445566778899aabbccddeeff"))
    with pytest.raises(KeysError, match="at least 16 bytes"):
        MarkKey.from_bytes(b"short")
    good = "00112233445566778899aabbccddeeff"
    for bad in ("zz secret", f"{good[:16]} {good[16:]}", f"{good}\n{good}\n", good[:-1]):
        with pytest.raises(KeysError, match="not hex digits") as caught:
            MarkKey.from_hex(bad)
        assert bad not in str(caught.value)
    with pytest.raises(UserError, match="11 lower-case hex digits"):
        Payload(0, "ABC")
    with pytest.raises(UserError, match=r"0\.\.15"):
        Payload(16, "0123456789a")


def test_importing_the_package_is_cheap() -> None:
    probe = "import sys, renderfarm.watermark; print(sorted({'torch', 'cv2', 'PIL', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
