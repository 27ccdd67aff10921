"""Every hostile file gets its verdict; pixels come out upright, in sRGB, unclipped, and without a byte of metadata."""

import hashlib
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from orfeas.cutout import cut_out
from orfeas.errors import BadPicture
from orfeas.picture import MAX_BYTES, MAX_SIDE_PX, Picture, encode_png, load_picture
from orfeas.picture_file import MAX_JPEG_SCANS, read_header

HOSTILE = Path(__file__).parent / "fixtures" / "hostile"
ENTRIES = [
    entry
    for entry in json.loads((HOSTILE / "manifest.json").read_text("utf-8"))["files"]
    if not entry["file"].startswith("ckpt/")
]
FINE = sorted((HOSTILE / "ok").iterdir())


def save(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def draw(width: int = 96, height: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 200, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 210)
    pixels[height // 2 :, width // 2 :] = 250
    return Image.fromarray(pixels)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, bits, colour, rows: bytes, *extra: bytes) -> bytes:
    """A PNG built by hand: the kinds that Pillow does not write."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(extra)
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


def refusal(source) -> BadPicture:
    with pytest.raises(BadPicture) as caught:
        load_picture(source)
    return caught.value


# --- verdicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_hostile_file_gets_its_verdict(entry):
    path = HOSTILE / entry["file"]
    if entry["verdict"] == "reject":
        with pytest.raises(BadPicture) as caught:
            cut_out(load_picture(path))
        assert caught.value.code == entry["code"]
        assert str(caught.value).endswith(".")
        return
    picture = load_picture(path)
    assert 0.1 < cut_out(picture).coverage < 0.9
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.rgba.dtype == np.uint8
    assert picture.rgba.shape == (*picture.original_size[::-1], 4)
    checks = entry.get("checks", {})
    assert picture.has_alpha == checks.get("has_alpha", False)
    if "corner_rgb" in checks:
        assert np.abs(picture.rgba[0, 0, :3].astype(int) - checks["corner_rgb"]).max() <= checks["tol"]
    if "must_not_leak" in checks:
        secret = checks["must_not_leak"].encode("latin-1")
        assert secret in path.read_bytes()
        assert secret not in encode_png(picture.rgba)
    if entry["verdict"] == "accept_warn":
        assert any("first frame" in note for note in picture.notes)
    else:
        assert picture.notes == ()


def test_fine_files_show_the_same_thing():
    """One scene in thirteen encodings: none is clipped, inverted or lost."""
    whole = [load_picture(path) for path in FINE]
    grey = [cv2.cvtColor(one.rgba[..., :3], cv2.COLOR_RGB2GRAY)[one.rgba[..., 3] > 0].mean() for one in whole]
    middle = [one.rgba[112:144, 112:144, :3].mean() for one in whole]
    assert len(whole) == 13
    assert min(grey) > 40
    assert min(middle) > 40


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_header_is_judged_in_little_memory():
    """In a fresh process, no refused file costs 64 MB; the bombs hold 10 GB of pixels."""
    code = """
import sys
from pathlib import Path
from orfeas.errors import BadPicture
from orfeas.picture import load_picture
def peak_kb():  # of this process alone: ru_maxrss starts with what the parent had
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
load_picture(Path(sys.argv[1]))
before = peak_kb()
for name in sys.argv[2:]:
    try:
        load_picture(Path(name))
    except BadPicture:
        continue
    raise SystemExit(name)
print(peak_kb() - before)
"""
    refused = [path for path in sorted((HOSTILE / "reject").iterdir()) if path.name != "one_pixel_alpha.png"]
    command = [sys.executable, "-c", code, *map(str, [FINE[0], *refused])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) < 64 * 1024


@pytest.mark.parametrize(
    ("width", "height", "code"),
    [
        (8000, 5000, "corrupt"),  # 40,000,000 is allowed: refused for its missing pixels only
        (8001, 5000, "too_many_pixels"),
        (2**31 - 1, 2**31 - 1, "too_many_pixels"),
        (31, 400, "too_small"),
        (40, 801, "bad_aspect"),
        (40, 800, "corrupt"),
        (0, 64, "corrupt"),
    ],
)
def test_bounds_are_exact(width, height, code):
    assert refusal(png(width, height, 8, 2, b"")).code == code


def test_size_in_bytes_is_bounded(tmp_path):
    small = save(draw())
    padded = small + b"\0" * (MAX_BYTES - len(small))
    assert load_picture(padded).original_size == (96, 64)
    assert refusal(padded + b"\0").code == "too_large"
    assert "16 MiB" in str(refusal(padded + b"\0"))
    path = tmp_path / "large.png"
    path.write_bytes(padded + b"\0")
    assert refusal(path).code == "too_large"


@pytest.mark.parametrize("name", ["missing.png", "", "a\0b.png", "x" * 5000])
def test_no_such_file_is_a_sentence(tmp_path, name):
    assert refusal(tmp_path / name).code == "no_picture"


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x1cftypisom", "video"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"%PDF-1.7", "PDF"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'>", "SVG"),
        (b"\xef\xbb\xbf<svg>", "SVG"),
        (b"\xff\x0a", "JPEG XL"),
    ],
)
def test_other_types_are_named(start, name):
    error = refusal(start + bytes(100))
    assert error.code == "unsupported_type"
    assert name in str(error)
    assert "JPEG or PNG" in str(error)


def test_empty_and_short_files():
    assert refusal(b"").code == "corrupt"
    assert refusal(b"\xff\xd8\xff").code == "corrupt"
    assert refusal(b"RIFF\x10\0\0\0WEBP").code == "corrupt"


def test_truncation_is_refused_at_any_place():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    for kind in ("PNG", "JPEG", "WEBP"):
        data = save(noise, kind)
        for share in (0.3, 0.6, 0.95):
            assert refusal(data[: int(len(data) * share)]).code == "corrupt", (kind, share)


def test_jpeg_of_very_many_scans_is_refused():
    data = save(draw(), "JPEG")
    assert refusal(data[:-2] + b"\xff\xda\0\2" * (MAX_JPEG_SCANS + 1) + b"\xff\xd9").code == "corrupt"


def test_what_hangs_on_behind_a_jpeg_is_not_looked_at():
    """Phones put a film there: megabytes in which any marker comes up by chance."""
    data = save(draw(), "JPEG", restart_marker_blocks=2)
    film = b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(8 << 20)
    assert film.count(b"\xff\xda") > MAX_JPEG_SCANS
    np.testing.assert_array_equal(load_picture(data + film).rgba, load_picture(data).rgba)
    assert read_header(data + film).needed == read_header(data).needed
    progressive = save(draw(), "JPEG", progressive=True)
    assert read_header(progressive + film).needed == read_header(progressive).needed == progressive


def test_packed_text_is_not_unpacked():
    """A PNG with 100 text chunks of 1 MB each is refused by Pillow itself; here they are never read."""
    bomb = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20))) * 100
    rows = (b"\0" + bytes([9, 99, 199]) * 40) * 40
    assert load_picture(png(40, 40, 8, 2, rows, bomb)).rgba[5, 5].tolist() == [9, 99, 199, 255]


# --- pixels --------------------------------------------------------------------------------------------------------


def test_every_orientation_comes_out_upright():
    upright = np.asarray(draw())
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    for orientation, store in undo.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.ascontiguousarray(store(upright)))
        for kind, options in (("PNG", {}), ("JPEG", {"quality": 95, "subsampling": 0}), ("WEBP", {"lossless": True})):
            picture = load_picture(save(stored, kind, exif=exif, **options))
            assert picture.original_size == (96, 64)
            assert np.abs(picture.rgba[..., :3].astype(int) - upright).mean() < 2, (orientation, kind)


def test_nothing_but_pixels_is_kept():
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 7.0)
    for kind in ("PNG", "JPEG", "WEBP"):
        data = save(draw(), kind, exif=exif)
        assert b"secret place" in data
        kept = encode_png(load_picture(data).rgba)
        assert b"secret place" not in kept
        with Image.open(io.BytesIO(kept)) as again:
            again.load()
            assert not again.info
            assert not again.getexif()


def test_encode_png_is_lossless_and_steady():
    rgba = np.random.default_rng(1).integers(0, 255, (40, 50, 4), np.uint8)
    assert encode_png(rgba) == encode_png(rgba.copy())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(rgba)))), rgba)


def test_opaque_alpha_is_none():
    assert not load_picture(save(draw().convert("RGBA"))).has_alpha
    nearly = draw().convert("RGBA")
    nearly.putpixel((3, 3), (1, 2, 3, 254))
    assert load_picture(save(nearly)).has_alpha


def test_soft_pixels_keep_their_colour():
    pixels = np.random.default_rng(2).integers(0, 255, (64, 64, 4), np.uint8)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        np.testing.assert_array_equal(load_picture(save(Image.fromarray(pixels), kind, **options)).rgba, pixels)


def test_sixteen_bits_are_scaled():
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    picture = load_picture(save(Image.fromarray(grey)))
    np.testing.assert_array_equal(picture.rgba[..., 0], np.rint(grey / 257).astype(np.uint8))
    rows = b"".join(b"\0" + struct.pack(">HHH", 0x1234, 0x8000, 0xFFFF) * 40 for _ in range(40))
    assert np.abs(load_picture(png(40, 40, 16, 2, rows)).rgba[0, 0].astype(int) - [0x12, 0x80, 255, 255]).max() <= 1


@pytest.mark.parametrize(
    ("bits", "colour", "clear", "solid", "key"),
    [
        (8, 0, b"\x07" * 40, b"\xc8" * 40, b"\0\x07"),
        (4, 0, b"\x33" * 20, b"\xcc" * 20, b"\0\x03"),
        (2, 0, b"\x55" * 10, b"\xff" * 10, b"\0\x01"),
        (1, 0, b"\x00" * 5, b"\xff" * 5, b"\0\0"),
        (16, 0, b"\x12\x34" * 40, b"\x12\x35" * 40, b"\x12\x34"),
        (8, 2, b"\x01\x02\x03" * 40, b"\xc8\x02\x03" * 40, b"\0\1\0\2\0\3"),
        (16, 2, b"\x10\0\x20\0\x30\0" * 40, b"\xc8\0\x20\0\x30\0" * 40, b"\x10\0\x20\0\x30\0"),
    ],
)
def test_colour_key_of_every_depth(bits, colour, clear, solid, key):
    rows = (b"\0" + clear) * 20 + (b"\0" + solid) * 20
    picture = load_picture(png(40, 40, bits, colour, rows, png_chunk(b"tRNS", key)))
    assert (picture.rgba[:20, :, 3] == 0).all()
    assert (picture.rgba[20:, :, 3] == 255).all()


def test_cmyk_with_and_without_adobe_marker():
    """Pillow writes Adobe's inverted samples. Without the marker the same samples mean the opposite inks."""
    scene = draw(96, 96)
    data = save(scene.convert("CMYK"), "JPEG", quality=98, subsampling=0)
    at = data.index(b"Adobe") - 4
    with_marker = load_picture(data).rgba[..., :3].astype(int)
    assert np.abs(with_marker - np.asarray(scene)).mean() < 6
    inverted = Image.eval(scene.convert("CMYK"), lambda ink: 255 - ink)
    data = save(inverted, "JPEG", quality=98, subsampling=0)
    without = data[:at] + data[at + 2 + struct.unpack_from(">H", data, at + 2)[0] :]
    assert b"Adobe" not in without
    assert np.abs(load_picture(without).rgba[..., :3].astype(int) - np.asarray(scene)).mean() < 6


def test_profile_is_applied_or_ignored():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # valid, but not for RGB pixels
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # sRGB with its red and green primaries' names exchanged: a valid profile that swaps the two
    swapped = srgb.replace(b"rXYZ", b"tmpX").replace(b"gXYZ", b"rXYZ").replace(b"tmpX", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    plain = np.asarray(draw())
    for profile in (lab, srgb, b"rubbish" * 30, swapped[:300]):
        for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
            rgba = load_picture(save(draw(), kind, icc_profile=profile, **options)).rgba
            np.testing.assert_array_equal(rgba[..., :3], plain)
    for image in (draw(), draw().convert("RGBA")):
        rgba = load_picture(save(image, icc_profile=swapped)).rgba
        assert rgba[5, 5, 1] > 150 > rgba[5, 5, 0]  # the red quarter is green now
        assert (rgba[..., 3] == 255).all()


def test_a_profile_is_judged_by_what_it_does_and_not_by_its_name():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = srgb.index(b"para", 128)  # its curve, which all three channels share: gamma 1 in place of sRGB's
    linear = srgb[:at] + struct.pack(">4sIHHI", b"para", 0, 0, 0, 1 << 16) + srgb[at + 16 :]
    assert "srgb" in ImageCms.getProfileDescription(ImageCms.getOpenProfile(io.BytesIO(linear))).lower()
    grey = Image.new("RGB", (64, 64), (55, 55, 55))
    assert load_picture(save(grey, icc_profile=srgb)).rgba[9, 9].tolist() == [55, 55, 55, 255]
    assert load_picture(save(grey, icc_profile=linear)).rgba[9, 9, :3] == pytest.approx(128, abs=2)
    assert load_picture(save(grey.convert("RGBA"), icc_profile=linear)).rgba[9, 9, 3] == 255


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    for kind in ("PNG", "WEBP"):
        picture = load_picture(save(frames[0], kind, save_all=True, append_images=frames[1:], duration=50))
        assert picture.rgba[9, 9, 0] > 200 > picture.rgba[9, 9, 2] + 100
        assert picture.notes[0].startswith("The picture is an animation: only the first frame of 3 was used.")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_large_picture_is_reduced(kind):
    data = save(draw(5000, 2500), kind)
    picture = load_picture(data)
    assert picture.rgba.shape == (MAX_SIDE_PX // 2, MAX_SIDE_PX, 4)
    assert picture.original_size == (5000, 2500)
    assert "5000 × 2500" in picture.notes[0]
    expected = np.asarray(draw(MAX_SIDE_PX, MAX_SIDE_PX // 2)).astype(int)
    assert np.abs(picture.rgba[..., :3] - expected).mean() < 2  # nothing has moved, nothing is darker


def test_reducing_mixes_no_hidden_colour():
    pixels = np.zeros((3000, 4500, 4), np.uint8)
    pixels[...] = (255, 0, 0, 0)  # hidden red
    pixels[:, 1000:3000] = (0, 200, 0, 255)
    picture = load_picture(save(Image.fromarray(pixels), compress_level=1))
    visible = picture.rgba[picture.rgba[..., 3] > 0]
    assert picture.has_alpha
    assert visible[:, 0].max() <= 12  # rounding where alpha is next to nothing
    assert abs(float((picture.rgba[..., 3] / 255).mean()) - 2000 / 4500) < 0.002


# --- noise ---------------------------------------------------------------------------------------------------------

mutations = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from(["flip", "cut", "insert", "drop"]), st.binary(max_size=9)
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from(FINE), changes=mutations, early=st.booleans())
def test_mutated_file_is_a_picture_or_a_sentence(path, changes, early):
    data = bytearray(path.read_bytes())
    for place, kind, extra in changes:
        at = int(place * (min(len(data), 120) if early else len(data)))  # early: hit the headers
        if kind == "flip":
            data[at : at + len(extra)] = extra
        elif kind == "cut":
            del data[max(at, 1) :]
        elif kind == "insert":
            data[at:at] = extra
        else:
            del data[at : at + len(extra)]
        if not data:
            break
    try:
        picture = load_picture(bytes(data))
    except BadPicture:
        return
    assert isinstance(picture, Picture)
    assert picture.rgba.shape[2] == 4


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    start=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP", b""]),
    rest=st.binary(max_size=300),
)
def test_header_reader_ends_on_noise(start, rest):
    try:
        header = read_header(start + rest)
    except BadPicture:
        return
    assert header.format in ("PNG", "JPEG", "WEBP")
