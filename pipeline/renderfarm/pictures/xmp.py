"""What a picture file says about its origin to tools that know no C2PA: XMP with the fields of IPTC 2025.1.

`packet` makes the XML, `add` puts it into an encoded PNG, JPEG or WebP without touching a pixel, `read` gets it
back. It is written before the credential is, so that the credential's hash covers it. The prompt is not in it: a
prompt may hold what a customer does not publish.

Sources: IPTC Photo Metadata Standard 2025.1 (AI System Used, AI System Version Used, Digital Source Type), XMP
specification part 3 (where each format keeps its packet), PNG third edition section 11.3.3.4 (iTXt).
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from xml.sax.saxutils import quoteattr

from renderfarm.errors import PictureError
from renderfarm.pictures.container import JPEG_APP0, JPEG_APP1, Piece, container_of, pieces

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = SOURCE_TYPES + "trainedAlgorithmicMedia"
EDITED = SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
"""IPTC's words for a picture that a model made, and for one that a model changed."""

NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}
PNG_HEAD = b"XML:com.adobe.xmp\0\0\0\0\0"
JPEG_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
HEADS = {b"iTXt": PNG_HEAD, JPEG_APP1: JPEG_HEAD, b"XMP ": b""}
"""What stands before a packet in the pieces of a PNG, JPEG and WebP file that may hold one, by their types."""
JPEG_SEGMENT_MAX = 65_533
VP8X_XMP, VP8X_ALPHA = 0x04, 0x10


def packet(
    *,
    system: str,
    system_version: str,
    provider: str,
    tool: str,
    created: str,
    unique_id: str,
    source_type: str = GENERATED,
) -> bytes:
    """An XMP packet, UTF-8.

    system, system_version: the model and its revision; provider: who runs it; tool: the program; created: ISO 8601
    with a zone; unique_id: how the picture is found in the log. Characters that XML cannot hold are left out.
    """
    fields = {
        "Iptc4xmpExt:DigitalSourceType": source_type,
        "Iptc4xmpExt:AISystemUsed": system,
        "Iptc4xmpExt:AISystemVersionUsed": system_version,
        "Iptc4xmpExt:DigImageGUID": unique_id,
        "photoshop:Credit": provider,
        "xmp:CreatorTool": tool,
        "xmp:CreateDate": created,
    }
    spaces = " ".join(f"xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in NAMESPACES.items() if prefix != "rdf")
    attributes = "\n   ".join(f"{name}={quoteattr(_legal(value))}" for name, value in fields.items() if value)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}">\n'
        f'  <rdf:Description rdf:about="" {spaces}\n   {attributes}/>\n'
        '</rdf:RDF></x:xmpmeta>\n<?xpacket end="r"?>'
    ).encode()


def _legal(text: str) -> str:
    """The characters of `text` that XML 1.0 section 2.2 allows."""
    return "".join(c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff")


def add(data: bytes, xmp: bytes) -> bytes:
    """The same picture file with the packet in it. For files just encoded here: one that holds a packet gets a second.

    Raises: PictureError when `data` is no PNG, JPEG or WebP file, or the packet is too long for a JPEG segment (64 kB).
    """
    first = next(pieces(data), None)
    if first is None:
        raise PictureError("there is no picture in the file")
    put = {"png": _add_to_png, "jpeg": _add_to_jpeg, "webp": _add_to_webp}[str(container_of(data))]
    return put(data, first, xmp)


def read(data: bytes) -> bytes | None:
    """The first XMP packet in a PNG, JPEG or WebP file, or None.

    Never raises for a malformed file: what is cut off is not there.
    """
    with contextlib.suppress(PictureError):
        for kind, start, end in pieces(data):
            head = HEADS.get(kind)
            if head is not None and data.startswith(head, start, end):
                return data[start + len(head) : end]
    return None


def _add_to_png(data: bytes, first: Piece, xmp: bytes) -> bytes:
    """An uncompressed iTXt chunk right behind the header and its checksum."""
    body = b"iTXt" + PNG_HEAD + xmp
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[: first.end + 4] + chunk + data[first.end + 4 :]


def _add_to_jpeg(data: bytes, first: Piece, xmp: bytes) -> bytes:
    """An APP1 segment behind the APP0 (JFIF) segment, or behind SOI when there is none."""
    body = JPEG_HEAD + xmp
    if len(body) > JPEG_SEGMENT_MAX:
        raise PictureError("the XMP packet is too long for a JPEG file", remedy="shorten the provider's name")
    end = first.end if first.kind == JPEG_APP0 else 2
    return data[:end] + b"\xff" + JPEG_APP1 + struct.pack(">H", len(body) + 2) + body + data[end:]


def _add_to_webp(data: bytes, first: Piece, xmp: bytes) -> bytes:
    """An `XMP ` chunk at the end, and the VP8X header that announces it, made here for a file that has none."""
    kind, start, end = first
    if kind == b"VP8X":
        header, rest = bytearray(data[start:end]), data[end + (end & 1) :]
        header[0] |= VP8X_XMP
    else:
        width, height, alpha = _webp_size(kind, data[start:end])
        flags = VP8X_XMP | (VP8X_ALPHA if alpha else 0)
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        header, rest = bytearray(bytes([flags, 0, 0, 0]) + sides), data[12:]
    body = b"WEBP" + _riff_chunk(b"VP8X", bytes(header)) + rest + _riff_chunk(b"XMP ", xmp)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int, bool]:
    """Width, height and whether there is alpha, of a simple WebP's only chunk (RFC 6386 section 9.1; RFC 9649
    section 3.4)."""
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF, False
    if kind == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    raise PictureError("not a WebP file")


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
