"""What a JPEG, PNG or WebP file says of itself, read without decoding a single pixel.

The decoder later sees only `Header.needed`: the parts of the file that make its pixels. Text, thumbnails, further
frames, whatever hangs on behind the end of the picture and every other extension stop here, with their bugs and bombs.

Sources: PNG (W3C, third edition) with its APNG chunks; JPEG (ITU-T T.81 annex B), JFIF, Adobe's APP14 (Technical Note
5116), ICC.1 annex B.4 for profiles in APP2; WebP container specification (RFC 9649); Exif 2.3 for the orientation.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from orfeas.errors import BadPicture

MAX_PROFILE_BYTES = 4 << 20  # an ICC profile larger than that is not used; print profiles have 0.5 to 3 MB
MAX_JPEG_SCANS = 100  # progressive files have about 10; each further scan costs the decoder a pass over the picture

# In the order they are tried; (offset, bytes, name). Known so that the sentence can name the type.
_OTHER_TYPES = (
    (0, b"GIF87a", "a GIF"),
    (0, b"GIF89a", "a GIF"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (0, b"BM", "a BMP"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "an EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS"),
    (0, b"8BPS", "a Photoshop"),
    (0, b"\0\0\1\0", "an ICO"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"\x1f\x8b", "a gzip"),
    (0, b"PK\3\4", "a ZIP"),
    (0, b"glTF", "a GLB"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftypavis", "an AVIF"),
    (4, b"ftyphe", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (4, b"ftypmsf1", "a HEIC"),
    (4, b"ftyp", "a video"),
)


@dataclass(frozen=True)
class Header:
    """One file's facts. width, height: pixels as stored, before ``orientation`` (Exif, 1 to 8) is applied.

    needed: the file again with only what its pixels need. icc: the embedded colour profile, unchecked, or None.
    frames: how many the file holds; above 1 it is an animation. bits: per sample (PNG). inverted: CMYK samples are
    stored as 255 minus ink (JPEG with Adobe's marker).
    """

    format: str
    width: int
    height: int
    needed: bytes = field(repr=False)
    orientation: int = 1
    icc: bytes | None = field(default=None, repr=False)
    frames: int = 1
    bits: int = 8
    inverted: bool = False


def read_header(data: bytes) -> Header:
    """The `Header` of a JPEG, PNG or WebP file, known by its content.

    Raises `BadPicture` with code "unsupported_type" for anything else, "corrupt" where the file breaks off or
    contradicts itself. Takes time and memory in proportion to ``data``, whatever the file claims to hold.
    """
    if not data:
        raise corrupt("it is empty")
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _read_png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError) as error:
        raise corrupt("it breaks off") from error
    raise BadPicture(f"{_name_type(data)}: save the picture as JPEG or PNG and try again.", "unsupported_type")


def corrupt(why: str) -> BadPicture:
    """The refusal of a damaged file; ``why`` ends the phrase "cannot be read:"."""
    return BadPicture(
        f"The picture is damaged and cannot be read: {why}. Save or download it again, as JPEG or PNG.",
        "corrupt",
    )


def _name_type(data: bytes) -> str:
    only = "Only JPEG, PNG and WebP pictures can be used"
    for offset, magic, name in _OTHER_TYPES:
        if data[offset : offset + len(magic)] == magic:
            return f"{only}, and this is {name} file"
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in start:
        return f"{only}, and this is an SVG file"
    if start.startswith((b"<!doctype html", b"<html")):
        return f"{only}, and this is a web page"
    return f"{only}, and this file is none of them"


def _read_png(data: bytes) -> Header:
    kept, position, facts, ended = [data[:8]], 8, {}, False
    view = memoryview(data)
    while not ended:
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise corrupt("it breaks off")
        body = view[position + 8 : end - 4]
        if position == 8 and (kind != b"IHDR" or length != 13):
            raise corrupt("its header is missing")
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            if zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                raise corrupt("a checksum in it is wrong")
            kept.append(view[position:end])
        if kind == b"IHDR":
            facts["width"], facts["height"], facts["bits"] = struct.unpack_from(">IIB", body)
        elif kind == b"acTL":
            facts["frames"] = struct.unpack_from(">I", body)[0]
        elif kind == b"eXIf":
            facts["orientation"] = _read_orientation(bytes(body))
        elif kind == b"iCCP":
            facts["icc"] = _inflate_profile(bytes(body))
        ended = kind == b"IEND"
        position = end
    return Header("PNG", needed=b"".join(kept), **facts)


def _inflate_profile(body: bytes) -> bytes | None:
    _name, _, packed = body.partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _read_jpeg(data: bytes) -> Header:
    kept, position, size, profile = [data[:2]], 2, None, {}
    orientation, inverted = None, False
    view = memoryview(data)
    while True:
        if data[position] != 0xFF:
            raise corrupt("a part of its header is not where it should be")
        while data[position + 1] == 0xFF:  # any marker may be preceded by fill bytes
            position += 1
        marker = data[position + 1]
        if marker == 0xDA:  # start of the first scan: the rest is pixels
            break
        if marker in (0xD8, 0xD9) or marker == 0:
            raise corrupt("it holds no picture")
        if 0xD0 <= marker <= 0xD7 or marker == 1:  # stand alone
            position += 2
            continue
        length = struct.unpack_from(">H", data, position + 2)[0]
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise corrupt("it breaks off")
        body = view[position + 4 : end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if size:
                raise corrupt("it has two headers")
            size = struct.unpack_from(">HH", body, 1)[::-1]
        elif marker == 0xE1 and bytes(body[:6]) == b"Exif\0\0" and orientation is None:  # the first one counts
            orientation = _read_orientation(bytes(body[6:]))
        elif marker == 0xE2 and bytes(body[:12]) == b"ICC_PROFILE\0" and len(body) > 14:
            profile[body[12]] = bytes(body[14:])
        elif marker == 0xEE and bytes(body[:5]) == b"Adobe":
            inverted = True
        if not (0xE1 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:  # APP14 says how colours are coded
            kept.append(view[position:end])
        position = end
    if size is None:
        raise corrupt("its header is missing")
    kept.append(view[position : _end_of_scans(data, position)])
    icc = b"".join(profile[number] for number in sorted(profile)) if profile else None
    if icc and len(icc) > MAX_PROFILE_BYTES:
        icc = None
    width, height = size
    return Header("JPEG", width, height, b"".join(kept), orientation or 1, icc, inverted=inverted)


def _end_of_scans(data: bytes, position: int) -> int:
    """Where a JPEG ends whose first scan begins at ``position``; what lies behind, such as a film, is not the picture.

    A file that breaks off ends where it does: the decoder judges that. Raises `BadPicture` for too many scans.
    """
    scans = 0
    while 0 <= position < len(data) - 1:
        marker = data[position + 1]
        if marker == 0xD9:
            return position + 2
        if marker == 0xDA:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise corrupt(f"it is cut into more than {MAX_JPEG_SCANS} scans")
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker not in (0x00, 0x01) and not 0xD0 <= marker <= 0xD7:  # a segment, with its length
            if position + 4 > len(data):
                break
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
        else:
            position += 2
        position = data.find(b"\xff", position)
    return len(data)


def _read_webp(data: bytes) -> Header:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise corrupt("it breaks off")
    facts, frames, position, size = {}, 0, 12, None
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > end:
            raise corrupt("it breaks off")
        body = data[position + 8 : position + 8 + length]
        if kind == b"VP8X" and size is None:
            size = tuple(1 + int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
        elif kind == b"VP8 " and size is None:
            if body[3:6] != b"\x9d\x01\x2a":
                raise corrupt("its first frame cannot be found")
            size = tuple(side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
        elif kind == b"VP8L" and size is None:
            packed = struct.unpack_from("<I", body, 1)[0]
            size = (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            facts["orientation"] = _read_orientation(body.removeprefix(b"Exif\0\0"))
        elif kind == b"ICCP" and length <= MAX_PROFILE_BYTES:
            facts["icc"] = body
        position += 8 + length + length % 2
    if size is None:
        raise corrupt("its header is missing")
    return Header("WEBP", *size, needed=data[:end], frames=max(frames, 1), **facts)


def _read_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory; 1 (upright) where there is none or the block is broken. Follows no pointers
    but the first, so that a block that points at itself ends as well."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        start = struct.unpack_from(order + "I", exif, 4)[0]
        for index in range(struct.unpack_from(order + "H", exif, start)[0]):
            tag, kind, _count, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * index)
            if tag == 0x0112 and kind == 3:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
