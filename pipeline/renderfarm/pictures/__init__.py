"""Picture files: the one door in and out, and what is remembered of how a picture looks.

container           the pieces of a PNG, JPEG or WebP file, for metadata and credentials
reader, writer      files → pixels, pixels → files: formats, limits, errors
xmp                 what a file says about its origin
pdq, hamming        a hash of how a picture looks, and finding near ones among millions
fingerprints        that hash with a thumbnail of colours: what finds near-duplicates
"""

from renderfarm.pictures import pdq, xmp
from renderfarm.pictures.fingerprints import Fingerprint, fingerprint
from renderfarm.pictures.hamming import HammingIndex
from renderfarm.pictures.reader import (
    BYTES_MAX,
    ENDINGS,
    FORMATS,
    PIXELS_MAX,
    Picture,
    Pixels,
    decode,
    media_type_of,
    read,
    read_file,
    size_of,
)
from renderfarm.pictures.writer import EXTENSIONS, encode, encode_like, thumbnail

__all__ = [
    "BYTES_MAX",
    "ENDINGS",
    "EXTENSIONS",
    "FORMATS",
    "PIXELS_MAX",
    "Fingerprint",
    "HammingIndex",
    "Picture",
    "Pixels",
    "decode",
    "encode",
    "encode_like",
    "fingerprint",
    "media_type_of",
    "pdq",
    "read",
    "read_file",
    "size_of",
    "thumbnail",
    "xmp",
]
