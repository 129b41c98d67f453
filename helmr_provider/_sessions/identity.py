"""Names of sessions and keys, and the metadata that name the task instance and try that own a session.

Everything here is pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from helmr_provider._common.errors import IdentityError
from helmr_provider._sessions.epoch import epoch_of

OWNERSHIP: Final = "airflow"
"""Member of a session's metadata that holds the stamp; authors may not use it."""

MAX_NAME_BYTES: Final = 512

_TRY: Final = re.compile(r"[?&]try_number=\d+")
_KEPT_BYTES: Final = 440
_DIGEST_DIGITS: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """A task instance of one Airflow installation, the same in every try.

    :param prefix: the connection's ``session_prefix``; differs between installations that share a Helmr environment.
    :param map_index: -1 when the task is not mapped.
    """

    prefix: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def external_id(self, generation: int) -> str:
        """Name the session of a generation. A public format: it never changes.

        :param generation: counts from 1; a new one begins when the last one cannot be adopted.
        """
        return self._name(str(generation))

    def input_key(self, epoch: str) -> str:
        """Name the one input record that the task instance sends between two clears. A public format, too.

        :param epoch: of the stamp.
        """
        return self._name(epoch)

    def once_key(self, epoch: str, *more: str) -> str:
        """Return an idempotency key: the same in every try, another one after a clear. A public format, too.

        :param epoch: of the ownership metadata.
        :param more: distinguishes several things that one task instance does.
        """
        name = [self.external_id(1), epoch, *more]
        return f"airflow:{hashlib.sha256(json.dumps(name).encode()).hexdigest()}"

    def _name(self, last: str) -> str:
        base = f"{self.prefix}:{self.dag_id}:{self.run_id}:{self.task_id}:{self.map_index}"
        name = f"{base}:{last}"
        if len(name.encode()) <= MAX_NAME_BYTES:
            return name
        digest = hashlib.sha256(base.encode()).hexdigest()[:_DIGEST_DIGITS]
        kept = name.encode()[:_KEPT_BYTES].decode(errors="ignore")
        return f"{kept}~{digest}:{last}"


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnershipMetadata:
    """The metadata that a try of a task instance writes into the session that it owns.

    :param owner: the try. Only the owner of a session may cancel it.
    :param epoch: unchanged by retries, new after a clear: a result is taken over within one epoch only.
    :param url: page of the task instance, for people who read the session.
    :param clears: how often tasks of the DAG run were cleared; ``None`` where Airflow does not say. A task that is
        cleared while it runs keeps its epoch; this number tells such a clear from a retry.
    :param ends_with_task: whether the run is of no use when the task instance is over.
    """

    owner: str
    epoch: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    url: str | None = None
    clears: int | None = None
    ends_with_task: bool = False

    @classmethod
    def of(cls, ti: Any, dag_run: Any) -> OwnershipMetadata:
        """Make the stamp of a running try.

        :param ti: the task instance, of Airflow 2 or 3.
        :param dag_run: its DAG run.
        """
        map_index = -1 if ti.map_index is None else int(ti.map_index)
        return cls(
            owner=owner_of(ti),
            epoch=epoch_of(getattr(dag_run, "start_date", None), getattr(ti, "max_tries", 0)),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=map_index,
            try_number=ti.try_number,
            url=getattr(ti, "log_url", None),
            clears=getattr(dag_run, "clear_number", None),
        )

    def identity(self, prefix: str) -> Identity:
        """Return whom the stamp belongs to, without the try.

        :param prefix: the connection's ``session_prefix``.
        """
        return Identity(
            prefix=prefix, dag_id=self.dag_id, run_id=self.run_id, task_id=self.task_id, map_index=self.map_index
        )

    def onto(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the metadata with this stamp in it, everything else untouched.

        :param metadata: metadata of the session, or the author's.
        """
        stamp = {
            "v": 1,
            "owner": self.owner,
            "epoch": self.epoch,
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            "url": self.url,
        }
        if self.clears is not None:
            stamp["clears"] = self.clears
        if self.ends_with_task:
            stamp["ends_with_task"] = True
        return {**(metadata or {}), OWNERSHIP: stamp}

    @property
    def instance(self) -> str:
        """Name the task instance between two clears, the same in every try."""
        return f"{self.dag_id}/{self.run_id}/{self.task_id}/{self.map_index}/{self.epoch}"

    def of_all_tries(self, prefix: str) -> dict[str, Any]:
        """Return metadata with a stamp that is the same in every try, for what a retry finds only by asking the same.

        Its owner is the task instance between two clears.

        :param prefix: the connection's ``session_prefix``.
        """
        url = None if self.url is None else _TRY.sub("", self.url)
        stamp = self.onto(None)[OWNERSHIP] | {"owner": self.instance, "url": url, "prefix": prefix}
        for name in ("try_number", "clears"):
            stamp.pop(name, None)
        return {OWNERSHIP: stamp}


def owner_of(ti: Any) -> str:
    """Name one try of a task instance: its id on Airflow 3, where every try has its own; its full key on Airflow 2.

    :param ti: the task instance.
    """
    if (ti_id := getattr(ti, "id", None)) is not None:
        return str(ti_id)
    map_index = -1 if ti.map_index is None else ti.map_index
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{map_index}/{ti.try_number}"


def ownership_member(metadata: Mapping[str, Any] | None, member: Literal["owner", "epoch"]) -> str | None:
    """Read a member of the stamp; ``None`` if there is none, or not one of ours.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    if not isinstance(stamp, Mapping):
        return None
    value = cast("Mapping[str, object]", stamp).get(member)
    return value if isinstance(value, str) else None


def instance_in(metadata: Mapping[str, Any] | None) -> str | None:
    """Read which task instance a stamp names, as :attr:`OwnershipMetadata.instance`; ``None`` if there is no stamp.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    if not isinstance(stamp, Mapping):
        return None
    members = cast("Mapping[str, object]", stamp)
    return "/".join(str(members.get(name)) for name in ("dag_id", "run_id", "task_id", "map_index", "epoch"))


def clears_in(metadata: Mapping[str, Any] | None) -> int | None:
    """Read how often tasks of the DAG run had been cleared when the stamp was written; ``None`` if it does not say.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    value = cast("Mapping[str, object]", stamp).get("clears") if isinstance(stamp, Mapping) else None
    return value if isinstance(value, int) else None


def try_number_in(metadata: Mapping[str, Any] | None) -> int | None:
    """Read the number of the try that wrote a stamp; ``None`` if there is none.

    :param metadata: metadata of a session.
    """
    stamp = (metadata or {}).get(OWNERSHIP)
    value = cast("Mapping[str, object]", stamp).get("try_number") if isinstance(stamp, Mapping) else None
    return value if isinstance(value, int) else None


def refuse_reserved(metadata: Mapping[str, Any] | None) -> None:
    """Refuse metadata of an author that would be taken for a stamp.

    :param metadata: what the author gave.
    :raises IdentityError: it has the reserved member.
    """
    if metadata and OWNERSHIP in metadata:
        raise IdentityError(
            f"metadata may not have the member {OWNERSHIP!r}: it says which task instance a session belongs to.",
            permanent=True,
        )
