"""Where a control plane keeps the archives of workspace versions and the directories of live workspaces."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

from helmr_provider.local.storage import archives

_INDEXES_KEPT = 16


class Files:
    """A directory beside the database file; one that goes with the control plane if the database is in memory.

    :param db: the database file, or None for memory.
    """

    def __init__(self, db: Path | None) -> None:
        self._kept = None if db is None else db.with_name(f"{db.name}.files")
        self._root: Path | None = None
        self._indexes: dict[str, dict[str, archives.Entry]] = {}
        # Archives are read in threads.
        self._lock = threading.Lock()

    @property
    def root(self) -> Path:
        """The directory, made at its first use."""
        return self._root or self.make()

    def make(self) -> Path:
        """Make the directory if it is not there yet, and remove what an earlier process began to write."""
        with self._lock:
            if self._root is None:
                root = Path(tempfile.mkdtemp(prefix="helmr-local-")) if self._kept is None else self._kept
                for name in ("artifacts", "workspaces"):
                    (root / name).mkdir(parents=True, exist_ok=True)
                for part in (root / "artifacts").glob("*.part"):
                    part.unlink()
                self._root = root.resolve()
            return self._root

    @property
    def temporary(self) -> Path | None:
        """The temporary directory, if it has been made."""
        return self._root if self._kept is None else None

    def close(self) -> None:
        """Remove what was only for this process."""
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def directory(self, workspace_id: str) -> Path:
        """Return where a live workspace's files are."""
        return self.root / "workspaces" / workspace_id / "files"

    def home(self, workspace_id: str) -> Path:
        """Return the home directory of a live workspace's processes, which no version holds."""
        return self.root / "workspaces" / workspace_id / "home"

    def materialize(self, workspace_id: str, digest: str) -> None:
        """Write a version's content into the workspace's directory, in place of what is there.

        :raises OSError: if something cannot be written.
        :raises tarfile.TarError: if the archive is damaged.
        """
        self.discard(workspace_id)
        self.directory(workspace_id).mkdir(parents=True)
        self.home(workspace_id).mkdir()
        if digest != archives.EMPTY_DIGEST:
            archives.unpack(self._archive(digest), self.directory(workspace_id))

    def discard(self, workspace_id: str) -> None:
        """Remove a workspace's directory."""
        shutil.rmtree(self.root / "workspaces" / workspace_id, ignore_errors=True)

    def capture(self, workspace_id: str) -> archives.Packed:
        """Keep the present content of a workspace's directory as an archive; return what names it.

        :raises OSError: if something cannot be read or written.
        """
        handle, name = tempfile.mkstemp(dir=self.root / "artifacts", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as target:
                packed = archives.pack(self.directory(workspace_id), target)
                target.flush()
                os.fsync(target.fileno())
            Path(name).replace(self._archive(packed.digest))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return packed

    def index(self, digest: str) -> dict[str, archives.Entry]:
        """Return a version's entries by path.

        :raises OSError: if the archive is gone.
        :raises tarfile.TarError: if the archive is damaged.
        """
        if digest == archives.EMPTY_DIGEST:
            return {}
        with self._lock:
            known = self._indexes.pop(digest, None)
        found = archives.index(self._archive(digest)) if known is None else known
        with self._lock:
            self._indexes[digest] = found
            if len(self._indexes) > _INDEXES_KEPT:
                del self._indexes[next(iter(self._indexes))]
        return found

    def read(self, digest: str, entry: archives.Entry) -> bytes:
        """Return a file's content in a version.

        :raises OSError: if the archive is gone.
        :raises tarfile.TarError: if the archive is damaged.
        """
        return archives.read(self._archive(digest), entry)

    def _archive(self, digest: str) -> Path:
        return self.root / "artifacts" / f"{digest.removeprefix('sha256:')}.tar"
