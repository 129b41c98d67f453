"""The animation of the demo: an animated PNG that stays small."""

from __future__ import annotations

import struct
import zlib

import pytest

from dev.pictures import IMAGES, MOST_BYTES, SIGNATURE, animated


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG file, each with a sum that fits."""
    assert png.startswith(SIGNATURE)
    found, position = [], len(SIGNATURE)
    while position < len(png):
        (size,) = struct.unpack(">I", png[position : position + 4])
        kind, content = png[position + 4 : position + 8], png[position + 8 : position + 8 + size]
        assert struct.unpack(">I", png[position + 8 + size : position + 12 + size]) == (zlib.crc32(kind + content),)
        found.append((kind, content))
        position += 12 + size
    return found


def still(grey: int, width: int = 2) -> bytes:
    """Return a picture in one shade of grey, two pixels high."""
    head = struct.pack(">IIBBBBB", width, 2, 8, 0, 0, 0, 0)
    data = zlib.compress((b"\0" + bytes([grey]) * width) * 2)
    parts = [(b"IHDR", head), (b"IDAT", data[:5]), (b"IDAT", data[5:]), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def test_stills_become_frames_in_their_order() -> None:
    found = chunks(animated([still(1), still(2), still(3)], 1500))
    assert [kind for kind, _ in found] == [
        *(b"IHDR", b"acTL", b"fcTL", b"IDAT"),
        *(b"fcTL", b"fdAT", b"fcTL", b"fdAT", b"IEND"),
    ]
    assert found[1][1] == struct.pack(">II", 3, 0)
    data = [content if kind == b"IDAT" else content[4:] for kind, content in found if kind in (b"IDAT", b"fdAT")]
    assert [zlib.decompress(each)[1] for each in data] == [1, 2, 3]
    numbers = [struct.unpack(">I", content[:4])[0] for kind, content in found if kind in (b"fcTL", b"fdAT")]
    assert numbers == [0, 1, 2, 3, 4]
    delays = {struct.unpack(">HH", content[20:24]) for kind, content in found if kind == b"fcTL"}
    assert delays == {(1500, 1000)}


def test_stills_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        animated([still(1), still(2, width=3)], 1000)


def test_the_animation_of_the_documentation_is_whole_and_small() -> None:
    content = (IMAGES / "demo.png").read_bytes()
    assert len(content) <= MOST_BYTES
    found = chunks(content)
    assert [kind for kind, _ in found].count(b"fcTL") == 4
    assert found[-1] == (b"IEND", b"")
