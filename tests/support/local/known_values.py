"""Things that exist on a local control plane, so that generated requests meet more than 404."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.client import HelmrClient, PublicScope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import Deployment
    from helmr_provider.local import LocalControlPlane

MISSING_ID = "00000000-0000-7000-8000-000000000000"
DEDUPLICATION_KEY = "nightly"


class KnownValues:
    """One environment's worth of records, made as they are asked for.

    :param server: the control plane; its worker and workspaces are paused, so that what is made stays as it is.
    :param environment: the environment's name.
    """

    def __init__(self, server: LocalControlPlane, environment: str) -> None:
        self.api_key = server.create_key(environment=environment)
        self._client = HelmrClient(url=server.url, api_key=self.api_key, max_streams=0)
        self._cache: dict[str, Any] = {}

    def close(self) -> None:
        self._client.close()

    def named(self, member: str) -> list[Any]:
        """Return values for a parameter or body member of this name, none if nothing is known by it."""
        maker = getattr(self, f"_{member}", None)
        if maker is None:
            return []
        if member not in self._cache:
            self._cache[member] = list(maker())
        found: list[Any] = self._cache[member]
        return found

    def credentials(self, path: str) -> list[str]:
        """Return the credentials that a path may be called with."""
        if not path.startswith("/api/v1/"):
            return [self.api_key]
        if "/tokens/" in path:
            return [str(token.public_access_token) for token in self._tokens()]
        session = self._open_session().session.id
        scope = PublicScope.input if "/inputs/" in path else PublicScope.output
        stream = "messages" if "/inputs/" in path else "progress"
        return [str(self._client.auth.create_public_token(scope(session, stream)).public_access_token), self.api_key]

    def _open_session(self) -> Any:
        if "open" not in self._cache:
            started = self._client.sessions.start("chat", {"n": 1}, external_id="open/one")
            self._client.sessions.open(started.session).input("messages").send({"hello": 1}, idempotency_key="first")
            self._client.sessions.open(started.session).output("progress").append(1)
            self._cache["open"] = started
        return self._cache["open"]

    def _closed_session(self) -> Any:
        if "closed" not in self._cache:
            started = self._client.sessions.start("chat", external_id="closed")
            self._client.sessions.open(started.session).cancel(reason="over")
            self._cache["closed"] = started
        return self._cache["closed"]

    def _tokens(self) -> list[Any]:
        if "tokens" not in self._cache:
            made = [self._client.tokens.create(tags=["a"], metadata={"n": n}) for n in range(3)]
            self._client.tokens.complete(made[1], {"ok": True})
            self._client.tokens.cancel(made[2])
            self._cache["tokens"] = made
        tokens: list[Any] = self._cache["tokens"]
        return tokens

    def _workspaces(self) -> list[Any]:
        if "workspaces" not in self._cache:
            made = [self._client.workspaces.create("local", external_id=f"place-{n}") for n in range(3)]
            self._client.workspaces.delete(made[2])
            self._cache["workspaces"] = made
        workspaces: list[Any] = self._cache["workspaces"]
        return workspaces

    def _session_id(self) -> Iterator[str]:
        yield self._open_session().session.id
        yield self._closed_session().session.id
        yield MISSING_ID

    def _external_id(self) -> Iterator[str]:
        self._open_session()
        self._closed_session()
        yield from ("open/one", "closed", "nobody's")

    def _id(self) -> Iterator[str]:
        # The one id in a body is that of a public access token's session.
        return self._session_id()

    def _run_id(self) -> Iterator[str]:
        yield self._open_session().run.id
        yield self._closed_session().run.id

    def _stream(self) -> Iterator[str]:
        yield from ("messages", "progress")

    def _task_id(self) -> Iterator[str]:
        yield "chat"

    _task = _task_id

    def _token_id(self) -> Iterator[str]:
        for token in self._tokens():
            yield token.id

    def _callback_secret(self) -> Iterator[str]:
        for token in self._tokens():
            yield str(token.callback_url).rpartition("/")[2]

    def _workspace_id(self) -> Iterator[str]:
        for workspace in self._workspaces():
            yield workspace.id
        yield MISSING_ID

    def _exec_id(self) -> Iterator[str]:
        yield self._client.workspaces.open(self._workspaces()[0]).exec(["true"], env={"A": "b"}).id

    def _pty_id(self) -> Iterator[str]:
        yield self._client.workspaces.open(self._workspaces()[0]).pty.create(cols=80, rows=24).id

    def _sandbox_id(self) -> Iterator[str]:
        yield from (sandbox.sandbox_id for sandbox in self._client.sandboxes.list())

    def _deployment_id(self) -> Iterator[str]:
        yield self._current().id

    def _deployment(self) -> Iterator[str]:
        yield from (self._current().id, self._current().version)

    def _current(self) -> Deployment:
        current = self._client.deployments.current()
        assert current is not None
        return current

    def _schedule_id(self) -> Iterator[str]:
        made = self._client.schedules.create(deduplication_key=DEDUPLICATION_KEY, task="chat", cron="0 9 * * 1-5")
        yield made.id
        yield from (schedule.id for schedule in self._client.schedules.list() if schedule.id != made.id)

    def _deduplication_key(self) -> Iterator[str]:
        yield from (DEDUPLICATION_KEY, "another")

    def _cron(self) -> Iterator[str]:
        yield from ("0 9 * * 1-5", "*/5 * * * *", "0 0 30 2 *", "@hourly")

    def _timezone(self) -> Iterator[str]:
        yield from ("UTC", "Europe/Amsterdam", "Nowhere/At_all")

    def _name(self) -> Iterator[str]:
        self._client.secrets.set("API_TOKEN", "value")
        yield from ("API_TOKEN", "ABSENT")
