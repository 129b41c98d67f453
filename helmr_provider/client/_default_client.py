"""The default client, which is built at first use, and its namespaces, which can be imported before."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from helmr_provider.client.errors import HelmrConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client._sync.client import HelmrClient


class _NotConfiguredError(HelmrConfigError, AttributeError):
    """There is no default client. An AttributeError as well, so that ``hasattr`` says no instead of raising."""


class LazyNamespace:
    """Look every attribute up on the default client's namespace of that name.

    :param name: namespace.
    :param client: returns the default client.
    """

    def __init__(self, name: str, client: Callable[[], Any]) -> None:
        self._name = name
        self._client = client

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        try:
            client = self._client()
        except HelmrConfigError as error:
            reason = str(error)
        else:
            return getattr(getattr(client, self._name), attribute)
        raise _NotConfiguredError(reason)

    def __repr__(self) -> str:
        return f"<{self._name} of the default client>"


# Reentrant, because a finalizer or a signal handler may interrupt its holder.
_lock = threading.RLock()
_default: tuple[int, HelmrClient] | None = None


def default_client() -> HelmrClient:
    """Return the process's default client, built from ``HELMR_API_URL`` and ``HELMR_API_KEY``.

    A forked child gets one of its own: two processes on one connection would read each other's answers.

    :raises HelmrConfigError: ``HELMR_API_URL`` is missing or unfit.
    """
    from helmr_provider.client._sync.client import HelmrClient

    global _default  # noqa: PLW0603 - the one client of the process is the point
    with _lock:
        if _default is None or _default[0] != os.getpid():
            _default = (os.getpid(), HelmrClient())
        return _default[1]


def close() -> None:
    """Close the process's default client, if there is one. The next use of a namespace builds another."""
    global _default
    with _lock:
        default, _default = _default, None
    if default is not None and default[0] == os.getpid():
        default[1].close()


def _unlock_in_child() -> None:
    # Another thread may have held the lock at the moment of the fork.
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_unlock_in_child)
