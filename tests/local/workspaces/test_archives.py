"""Archives of workspace versions: members that are kept, omitted or refused."""

from __future__ import annotations

import io
import os
import shutil
import socket
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider.local.storage import archives

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\0"), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
TREES: st.SearchStrategy[object] = st.recursive(
    st.one_of(st.binary(max_size=2000), st.text(NAMES.map(lambda name: name[0]), min_size=1, max_size=5)),
    lambda children: st.dictionaries(NAMES, children, max_size=4),
    max_leaves=12,
)


def grow(directory: Path, tree: object) -> None:
    """Make files of bytes, symlinks of text and directories of dictionaries."""
    if isinstance(tree, bytes):
        directory.write_bytes(tree)
    elif isinstance(tree, str):
        directory.symlink_to(tree)
    elif isinstance(tree, dict):
        directory.mkdir()
        for name, child in tree.items():
            grow(directory / name, child)


def seen(directory: Path) -> dict[str, tuple[str, object, int]]:
    """Return what a directory holds: kind, content and mode by path."""
    found: dict[str, tuple[str, object, int]] = {}
    for path in directory.rglob("*"):
        name, mode = path.relative_to(directory).as_posix(), path.lstat().st_mode
        if path.is_symlink():
            found[name] = ("symlink", str(path.readlink()), mode)
        elif path.is_dir():
            found[name] = ("directory", None, mode)
        else:
            found[name] = ("file", path.read_bytes(), mode)
    return found


def packed(directory: Path, target: Path) -> archives.Packed:
    with target.open("wb") as file:
        return archives.pack(directory, file)


@settings(max_examples=60)
@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_a_directory_comes_back_as_it_was_and_makes_the_same_archive_again(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        grow(root / "before", tree)
        first = packed(root / "before", root / "first.tar")
        (root / "after").mkdir()
        archives.unpack(root / "first.tar", root / "after")
        wanted = seen(root / "before")
        assert seen(root / "after") == wanted
        assert packed(root / "after", root / "second.tar") == first
        assert first.entries == len(wanted)
        assert first.size == (root / "first.tar").stat().st_size
        entries = archives.index(root / "first.tar")
        assert {name: entry.kind for name, entry in entries.items()} == {name: item[0] for name, item in wanted.items()}
        for name, entry in entries.items():
            if entry.kind == "file":
                assert archives.read(root / "first.tar", entry) == wanted[name][1]


def test_an_empty_directory_makes_an_archive_without_entries(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert packed(tmp_path / "empty", tmp_path / "empty.tar").entries == 0
    assert archives.index(tmp_path / "empty.tar") == {}


def test_modes_are_the_numbers_of_go(tmp_path: Path) -> None:
    directory = tmp_path / "files"
    (directory / "dir").mkdir(parents=True)
    (directory / "dir").chmod(0o1755)
    (directory / "tool").write_text("#!/bin/sh\n")
    (directory / "tool").chmod(0o4750)
    (directory / "link").symlink_to("/somewhere/else")
    packed(directory, tmp_path / "files.tar")
    entries = archives.index(tmp_path / "files.tar")
    assert entries["dir"].mode == 1 << 31 | 1 << 20 | 0o755
    assert entries["tool"].mode == 1 << 23 | 0o750
    assert entries["link"].mode == 1 << 27 | 0o777
    assert entries["link"].link_target == "/somewhere/else"


def test_a_second_name_of_a_file_is_a_file_and_a_socket_is_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "one").write_text("same")
    (directory / "two").hardlink_to(directory / "one")
    os.mkfifo(directory / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
        assert packed(directory, tmp_path / "files.tar").entries == 2
    entries = archives.index(tmp_path / "files.tar")
    assert [archives.read(tmp_path / "files.tar", entries[name]) for name in ("one", "two")] == [b"same", b"same"]


def test_owners_on_this_machine_are_not_stored(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one").write_text("x")
    packed(tmp_path / "files", tmp_path / "files.tar")
    with tarfile.open(tmp_path / "files.tar") as archive:
        member = archive.getmember("one")
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


def test_parents_that_an_archive_does_not_name_are_directories_without_mode_and_time(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "sparse.tar", "w") as archive:
        member = tarfile.TarInfo("a/b/file")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    entries = archives.index(tmp_path / "sparse.tar")
    assert sorted(entries) == ["a", "a/b", "a/b/file"]
    assert (entries["a"].kind, entries["a"].mode, entries["a"].modified) == ("directory", 0, None)


@pytest.mark.parametrize("name", ["../outside", "/../../outside"])
def test_an_archive_that_would_write_outside_is_refused(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    with pytest.raises(tarfile.TarError):
        archives.unpack(tmp_path / "evil.tar", inside)
    assert not list(tmp_path.rglob("outside"))


def test_a_file_behind_a_symlink_is_not_written_through_it(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "target")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("way/out"), io.BytesIO())
    (tmp_path / "target").mkdir()
    (tmp_path / "inside").mkdir()
    with pytest.raises(tarfile.TarError):
        archives.unpack(tmp_path / "evil.tar", tmp_path / "inside")
    assert not list((tmp_path / "target").iterdir())
    shutil.rmtree(tmp_path / "inside")
