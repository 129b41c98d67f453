"""The one SQLite connection of a control plane.

Everything is done on one thread, the event loop's, in short statements, so a transaction is never interleaved with
another.
A file is opened in WAL mode and held exclusively: a commit survives the death of the process, and a second control
plane on the same file is refused instead of running every task twice.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from helmr_provider.local.common.errors import NUL_IN_TEXT, TEXT, StorageRefusal
from helmr_provider.local.storage.schema import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

Row = sqlite3.Row


class DatabaseError(Exception):
    """The database file cannot be used; the text says why."""


class Database:
    """A connection, its transactions, and what is to be done after a commit.

    :param path: the file, or None for a database in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._depth = 0
        self._after_commit: list[Callable[[], None]] = []
        # SQLite's module refuses every thread but this one, so two can never use it at the same time.
        self._connection = sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=0.5)
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    @property
    def changes(self) -> int:
        """How many rows were changed since the database was opened."""
        return self._connection.total_changes

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Execute one statement.

        :raises StorageRefusal: for a text with a NUL character, as PostgreSQL refuses it.
        """
        return self._connection.execute(sql, _storable(values))

    def one(self, sql: str, *values: object) -> Row | None:
        """Return the first row, or None."""
        row: Row | None = self.execute(sql, *values).fetchone()
        return row

    def all(self, sql: str, *values: object) -> list[Row]:
        """Return every row."""
        return self.execute(sql, *values).fetchall()

    def insert(self, table: str, **values: object) -> None:
        """Insert one row."""
        columns, marks = ", ".join(values), ", ".join("?" for _ in values)
        self.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", *values.values())  # noqa: S608 - names are ours

    def update(self, table: str, row_id: str, **values: object) -> None:
        """Update the row with this id."""
        changes = ", ".join(f"{column} = ?" for column in values)
        self.execute(f"UPDATE {table} SET {changes} WHERE id = ?", *values.values(), row_id)  # noqa: S608 - names are ours

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do something once the present transaction is committed, or now if there is none."""
        if self._depth:
            self._after_commit.append(action)
        else:
            action()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit all of a block's statements or none; an inner block belongs to the outer one."""
        if self._depth == 0:
            self._connection.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._roll_back()
            raise
        self._depth -= 1
        if self._depth == 0:
            try:
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            actions, self._after_commit = self._after_commit, []
            for action in actions:
                action()

    def _roll_back(self) -> None:
        self._after_commit.clear()
        # SQLite ends the transaction itself when the disk is full.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _prepare(self) -> None:
        where = str(self._path or "the database in memory")
        try:
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A killed process loses nothing at this level; only a power cut could take the newest commits.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("BEGIN IMMEDIATE")
            version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.OperationalError as error:
            raise DatabaseError(
                f"{where} is in use by another local control plane, or cannot be opened: {error}"
            ) from None
        except sqlite3.DatabaseError as error:
            raise DatabaseError(f"{where} is not a database of the local control plane: {error}") from None
        if version > len(SCRIPTS):
            self._connection.execute("ROLLBACK")
            raise DatabaseError(
                f"{where} has schema version {version}, newer than {len(SCRIPTS)}, the newest that this release knows"
            )
        for script in SCRIPTS[version:]:
            for statement in script.split(";\n"):
                self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version = {len(SCRIPTS)}")
        self._connection.execute("COMMIT")


def _storable(values: tuple[object, ...]) -> tuple[object, ...]:
    for value in values:
        if isinstance(value, str) and "\0" in value:
            raise StorageRefusal(TEXT, NUL_IN_TEXT)
    return values
