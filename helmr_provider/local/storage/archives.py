"""Workspace versions as tar archives: packing a directory, unpacking it, listing it."""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Two empty blocks: how an archive without entries ends, before any padding.
EMPTY = bytes(1024)
EMPTY_DIGEST = f"sha256:{hashlib.sha256(EMPTY).hexdigest()}"

Kind = Literal["file", "directory", "symlink"]

# Python 3.11.0 to 3.11.3 have no extraction filters, and later versions change modes without one.
_AS_STORED: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}

# Go's file-mode numbers keep permissions where POSIX has them, and nothing else.
_GO_DIRECTORY, _GO_SYMLINK = 1 << 31, 1 << 27
_GO_BITS = ((0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20))


class Packed(NamedTuple):
    """An archive that was written: what names it, and what is in it."""

    digest: str
    size: int
    entries: int


@dataclass(frozen=True)
class Entry:
    """One file, directory or symlink of an archive.

    :param path: relative, `/`-separated.
    :param mode: as Go numbers it; 0 for what is known only from its children.
    :param modified: microseconds since the epoch; None for the root and what is known only from its children.
    """

    path: str
    kind: Kind
    size: int = 0
    mode: int = 0
    link_target: str | None = None
    modified: int | None = None
    member: tarfile.TarInfo | None = None


def pack(directory: Path, target: IO[bytes]) -> Packed:
    """Write a directory's content as a tar archive.

    Files, directories and symlinks are kept; sockets, devices and pipes have no place in a version. Times are whole
    seconds and owners are left out, so that the same content makes the same archive.

    :raises OSError: if something cannot be read.
    """
    # Any object with `write` and `tell` will do.
    writer = _Hashing(target)
    entries = 0
    with tarfile.TarFile(fileobj=cast("Any", writer), mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in _walk(directory):
            entries += _add(archive, path, path.relative_to(directory).as_posix())
    return Packed(f"sha256:{writer.digest.hexdigest()}", writer.tell(), entries)


def unpack(source: Path, directory: Path) -> None:
    """Write an archive's content into a directory.

    :raises OSError: if something cannot be written.
    :raises tarfile.TarError: if the archive is damaged or would write outside the directory.
    """
    with tarfile.open(source) as archive:
        archive.extractall(directory, _inside(archive, directory), **_AS_STORED)  # noqa: S202 - _inside checks each
        for member in archive.getmembers():
            if member.issym():
                # The library leaves their times as they come, and the same content would make another archive.
                os.utime(directory / member.name, (member.mtime, member.mtime), follow_symlinks=False)


def index(source: Path) -> dict[str, Entry]:
    """Return an archive's entries by path, missing parents included.

    :raises tarfile.TarError: if the archive is damaged.
    """
    entries: dict[str, Entry] = {}
    with tarfile.open(source) as archive:
        for member in archive:
            entry = _entry(member)
            entries[entry.path] = entry
    for path in list(entries):
        parent = path.rpartition("/")[0]
        while parent and parent not in entries:
            entries[parent] = Entry(parent, "directory")
            parent = parent.rpartition("/")[0]
    return entries


def read(source: Path, entry: Entry) -> bytes:
    """Return a file's content.

    :raises tarfile.TarError: if the archive is damaged.
    """
    if entry.member is None:
        return b""
    with tarfile.open(source) as archive:
        content = archive.extractfile(entry.member)
        return b"" if content is None else content.read()


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._written = 0
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self._written += len(content)
        return self._target.write(content)

    def tell(self) -> int:
        return self._written


def _walk(directory: Path) -> Iterator[Path]:
    for child in sorted(directory.iterdir()):
        yield child
        if child.is_dir() and not child.is_symlink():
            yield from _walk(child)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> int:
    # For a socket there is no member at all, although the type says so.
    member = cast("tarfile.TarInfo | None", archive.gettarinfo(path, arcname=name))
    if member is None or not (member.isreg() or member.islnk() or member.isdir() or member.issym()):
        return 0
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(member.mtime)
    if member.isdir() or member.issym():
        archive.addfile(member)
        return 1
    with path.open("rb") as content:
        # A second name of one file is a file of its own here, as it is for readers of single files.
        member.type = tarfile.REGTYPE
        member.linkname = ""
        member.size = os.fstat(content.fileno()).st_size
        archive.addfile(member, content)
    return 1


def _inside(archive: tarfile.TarFile, directory: Path) -> Iterator[tarfile.TarInfo]:
    root = directory.resolve()
    # Each is checked after those before it were extracted, so that no symlink leads out.
    for member in archive.getmembers():
        if not (root / member.name).resolve().is_relative_to(root):
            raise tarfile.ReadError(f"{member.name!r} would be written outside the directory")
        yield member


def _entry(member: tarfile.TarInfo) -> Entry:
    modified = int(member.mtime * 1_000_000)
    mode = member.mode & 0o777
    for bit, go_bit in _GO_BITS:
        if member.mode & bit:
            mode |= go_bit
    if member.isdir():
        return Entry(member.name, "directory", 0, mode | _GO_DIRECTORY, None, modified)
    if member.issym():
        return Entry(member.name, "symlink", 0, mode | _GO_SYMLINK, member.linkname, modified)
    return Entry(member.name, "file", member.size, mode, None, modified, member)
