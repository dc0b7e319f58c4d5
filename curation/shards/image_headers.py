"""Format and dimensions from an image's first bytes, before any memory is allocated for pixels. Cost: ~3 us."""

from __future__ import annotations

import struct

import simplejpeg

from curation.core.errors import ImageError

_MAGIC = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "webp": (b"RIFF",),
    "gif": (b"GIF87a", b"GIF89a"),
    "bmp": (b"BM",),
    "tiff": (b"II*\0", b"MM\0*"),
}
_AVIF_BRANDS = (b"avif", b"avis", b"mif1")
_JPEG_MESSAGES = {
    "remature end": "image_truncated",
    "subsampling": "image_unsupported",
    "nsupported": "image_unsupported",
}


def sniff(data: bytes) -> str:
    """Return the format by its magic bytes, "" if unknown. Raises `ImageError` if the magic bytes are cut short."""
    for name, magics in _MAGIC.items():
        for magic in magics:
            if data.startswith(magic) and (name != "webp" or b"WEBP".startswith(data[8:12])):
                return name
            if magic.startswith(data):
                raise ImageError("image_truncated", f"only {len(data)} bytes")
    if len(data) < 12 and bytes(3).startswith(data[:3]) and b"ftyp".startswith(data[4:8]):
        raise ImageError("image_truncated", f"only {len(data)} bytes")
    return "avif" if data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS else ""


def jpeg_error(data: bytes, error: ValueError) -> ImageError:
    """Translate an error of libjpeg-turbo into an `ImageError`."""
    message = " ".join(str(error).split())[:200]
    if b"\xff\xd9" not in data:  # no end-of-image marker; libjpeg has several messages for that
        return ImageError("image_truncated", message)
    reason = next((reason for text, reason in _JPEG_MESSAGES.items() if text in message), "image_corrupt")
    return ImageError(reason, message)


def jpeg_dimensions(data: bytes) -> tuple[int, int]:
    """Return (width, height) from libjpeg's own header parser, so that no second parser can read another size.

    Raises `ImageError`.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise jpeg_error(data, error) from None
    except KeyError:  # libjpeg-turbo supports 4:4:1, but simplejpeg has no name for it
        raise ImageError("image_corrupt", "its chroma is subsampled in a way that the decoder does not know") from None
    return width, height


def png_dimensions(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a PNG. Raises `ImageError`, or `struct.error` for a header that is cut short."""
    width, height = struct.unpack_from(">II", data, 16)
    if data[12:16] != b"IHDR":
        raise ImageError("image_corrupt", "PNG without IHDR")
    return width, height


def webp_dimensions(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a WebP. Raises `ImageError`, or `struct.error` and `IndexError` for a cut header."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        _, width, width_high, height, height_high = struct.unpack_from("<IHBHB", data, 20)
        return 1 + width + (width_high << 16), 1 + height + (height_high << 16)
    if chunk == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature == 0x2F:
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start == b"\x9d\x01\x2a":
            return width & 0x3FFF, height & 0x3FFF
    elif len(chunk) < 4:
        raise IndexError
    raise ImageError("image_corrupt", "no WebP bitstream header")


def check_webp(data: bytes) -> None:
    """Raise `ImageError` for a WebP shorter than its header declares: libwebp would invent the missing pixels."""
    size = 8 + int.from_bytes(data[4:8], "little")
    if size > len(data):
        raise ImageError("image_truncated", f"{len(data)} bytes of a WebP of {size}")
