"""Is this file a picture we can use, and what are its pixels?

The header is judged before anything is decoded (`orfeas.picture_file`), so a file that claims 2.5 gigapixels is refused
for the price of reading it. What is kept afterwards is pixels: no metadata, no original bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from orfeas.errors import BadPicture
from orfeas.picture_file import Header, corrupt, read_header

MAX_BYTES = 16 << 20
MAX_PIXELS = 40_000_000
MIN_SIDE_PX = 32
MAX_ASPECT = 20
MAX_SIDE_PX = 2048  # longest side that is kept: more than any engine looks at, or a printed texture shows

_STRIP_ROWS = 256  # rows that are converted at a time
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A checked picture, upright, in sRGB.

    rgba: (height, width, 4) uint8, straight alpha, longest side at most `MAX_SIDE_PX`.
    has_alpha: some pixel is not opaque. sha256: of the bytes that were given, in hex.
    format: "JPEG", "PNG" or "WEBP". original_size: (width, height) as shown, before it was reduced.
    notes: sentences for the user about what was done.
    """

    rgba: np.ndarray = field(repr=False)
    has_alpha: bool
    sha256: str
    format: str
    original_size: tuple[int, int]
    notes: tuple[str, ...] = ()


def load_picture(source: Path | bytes) -> Picture:
    """The picture in a file, or in a file's bytes. Raises `BadPicture` with one of these codes:

    no_picture (there is no such file), too_large (bytes), unsupported_type, corrupt, too_many_pixels, too_small,
    bad_aspect.
    """
    data = _read(source)
    header = read_header(data)
    _judge(header)
    digest = hashlib.sha256(data).hexdigest()
    del data
    try:
        image = _decode(header)
    except (BadPicture, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on damaged files: OSError, SyntaxError, struct.error, ...
        raise corrupt("its pixels cannot be decoded") from error
    rgba = np.array(image, np.uint8)

    size = (header.width, header.height) if header.orientation < 5 else (header.height, header.width)
    notes = []
    if header.frames > 1:
        notes.append(f"The picture is an animation: only the first frame of {header.frames} was used.")
    if (image.width, image.height) != size:
        notes.append(f"The picture was reduced from {size[0]} × {size[1]} to {image.width} × {image.height} pixels.")
    has_alpha = bool((rgba[..., 3] < 255).any())
    return Picture(rgba, has_alpha, digest, header.format, size, tuple(notes))


def encode_png(rgba: np.ndarray) -> bytes:
    """A PNG file of (h, w, 4) uint8 straight alpha: pixels only, no metadata. The same pixels give the same bytes."""
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgba, np.uint8)).save(target, "PNG", compress_level=4)
    return target.getvalue()


def _read(source: Path | bytes) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    else:
        try:
            path = Path(source)
            if not path.is_file():  # a folder, a device, or nothing at all
                raise BadPicture(
                    f"There is no picture file {path.name!r}: choose a JPEG, PNG or WebP file.", "no_picture"
                )
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise BadPicture(
                "The picture file cannot be opened: check that it exists and may be read.", "no_picture"
            ) from error
    if len(data) > MAX_BYTES:
        raise BadPicture(
            f"The picture file is larger than {MAX_BYTES >> 20} MiB: reduce it or save it as JPEG, and try again.",
            "too_large",
        )
    return data


def _judge(header: Header) -> None:
    width, height = header.width, header.height
    shown = f"The picture has {width} × {height} pixels"
    if not width or not height:
        raise corrupt("its header gives it no size")
    if width * height > MAX_PIXELS:
        raise BadPicture(
            f"{shown}, and at most {MAX_PIXELS // 1_000_000} megapixels can be used: reduce it and try again.",
            "too_many_pixels",
        )
    if min(width, height) < MIN_SIDE_PX:
        raise BadPicture(f"{shown}, and each side needs at least {MIN_SIDE_PX}: use a larger picture.", "too_small")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadPicture(
            f"{shown}, and may be at most {MAX_ASPECT} times as long as it is wide: crop it around the subject.",
            "bad_aspect",
        )


def _decode(header: Header) -> Image.Image:
    """Upright RGBA, sRGB, at most MAX_SIDE_PX long."""
    with Image.open(io.BytesIO(header.needed), formats=[header.format]) as image:
        if image.size != (header.width, header.height):
            raise corrupt("it contradicts its own header")
        target = _fit(image.size)
        if header.format == "JPEG":
            image.draft(None, target)  # the decoder itself leaves out detail that would be reduced away
        if header.bits < 8 and image.mode == "L" and "transparency" in image.info:
            # PNG gives the transparent grey in the file's own depth, and Pillow has widened the pixels to 8 bits
            image.info["transparency"] = image.info["transparency"] * 255 // (2**header.bits - 1)
        if header.bits == 16 and isinstance(image.info.get("transparency"), tuple):
            image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
        image.load()
        reduced = _reduce(image, target, _choose_conversion(image, header, "RGBA" if image.size == target else "RGBa"))
    shown = _convert_colours(reduced, header.icc).convert("RGBA")
    turn = _TURNS.get(header.orientation)
    return shown if turn is None else shown.transpose(turn)


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    longest = max(size)
    if longest <= MAX_SIDE_PX:
        return size
    return tuple(max(1, round(side * MAX_SIDE_PX / longest)) for side in size)


def _choose_conversion(image: Image.Image, header: Header, with_alpha: str) -> Callable[[Image.Image], Image.Image]:
    """How a strip of ``image`` becomes L, RGB, CMYK or, where it has transparency, ``with_alpha``.

    with_alpha: "RGBa" (premultiplied) if the picture is to be reduced, so that no hidden colour is mixed in; else
    "RGBA", because the way there and back rounds the colours of soft pixels.
    """
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        return lambda strip: _narrow(strip, key, with_alpha)
    if image.mode == "CMYK" and not header.inverted:
        return lambda strip: Image.eval(
            strip, lambda ink: 255 - ink
        )  # Pillow takes every CMYK JPEG for an inverted one
    if image.mode in ("RGBA", "LA", "PA") or key is not None:
        return lambda strip: _with_key(strip, key).convert("RGBA").convert(with_alpha)
    mode = {"1": "L", "L": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    return lambda strip: strip.convert(mode)


def _with_key(strip: Image.Image, key) -> Image.Image:
    if key is not None:
        strip.info["transparency"] = key
    return strip


def _narrow(strip: Image.Image, key: int | None, with_alpha: str) -> Image.Image:
    """16-bit grey to 8 bits: 65535 / 255 = 257, rounded."""
    wide = np.asarray(strip).astype(np.uint32)
    grey = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if key is None:
        return grey
    alpha = Image.fromarray(np.where(wide == key, 0, 255).astype(np.uint8))
    return Image.merge("RGBA", (grey, grey, grey, alpha)).convert(with_alpha)


def _reduce(image: Image.Image, target: tuple[int, int], convert: Callable) -> Image.Image:
    """``image`` converted and reduced to ``target``, in strips: a large picture is never held twice."""
    factor = max(1, max(image.size) // max(target))
    rows = _STRIP_ROWS * factor
    whole = None
    for top in range(0, image.height, rows):
        strip = convert(image.crop((0, top, image.width, min(top + rows, image.height)))).reduce(factor)
        if whole is None:
            whole = Image.new(strip.mode, (strip.width, -(-image.height // factor)))
        whole.paste(strip, (0, top // factor))
    if whole.size != target:
        # the box keeps the scale exact where the factor does not divide the size
        box = (0, 0, image.width / factor, image.height / factor)
        whole = whole.resize(target, Image.Resampling.LANCZOS, box)
    return whole.convert("RGBA") if whole.mode == "RGBa" else whole


def _convert_colours(image: Image.Image, icc: bytes | None) -> Image.Image:
    """To sRGB by the embedded profile. A profile that is broken or for other colours is ignored, as browsers do."""
    if not icc:
        return image
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha else image
    try:
        profile = ImageCms.getOpenProfile(io.BytesIO(icc))
        if profile.profile.xcolor_space.strip() == "GRAY":
            colours = colours.convert("L")
        to_srgb = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), colours.mode, "RGB")
        if colours.mode == "RGB" and _changes_nothing(to_srgb):  # sRGB itself, under whatever name
            return image
        converted = ImageCms.applyTransform(colours, to_srgb)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if alpha:
        converted.putalpha(alpha)
    return converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform of RGB leaves greys and pure colours as they are, but for rounding."""
    ramp = np.arange(0, 256, 5, dtype=np.uint8)
    samples = np.concatenate([ramp[:, None] * np.array(one, np.uint8) for one in ((1, 1, 1), *np.eye(3, dtype=int))])
    changed = np.asarray(ImageCms.applyTransform(Image.fromarray(samples[None]), transform))[0]
    return bool(np.abs(changed.astype(int) - samples).max() <= 2)
