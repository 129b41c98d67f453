"""API keys from the administration of a control plane on this machine, and the command `env`."""

from __future__ import annotations

import json
import shlex
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from helmr_provider._local_cli.variables import variables

if TYPE_CHECKING:
    import argparse

_ANSWER_SECONDS = 10.0


def env(options: argparse.Namespace) -> int:
    """Print shell variables for a running control plane, with a new API key."""
    url = f"http://127.0.0.1:{options.port}"
    key = _request_key(f"{url}/_local/keys", {"environment": options.environment})
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables(url, key).items())
    return 0


def default_key(url: str) -> str:
    """Return the API key that a control plane on this machine always has.

    :param url: its base URL.
    :raises ValueError: nothing answers there, or something else does.
    """
    return _request_key(f"{url}/_local/keys/default", None)


def _request_key(url: str, body: dict[str, str] | None) -> str:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})  # noqa: S310 - http
    # A proxy of this machine's settings would ask for its own loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    base = url.partition("/_local")[0]
    try:
        with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
            key = json.load(answer)["key"]
    except urllib.error.HTTPError as error:
        raise ValueError(f"what answers at {base} is no local control plane: status {error.code}") from None
    except OSError:
        raise ValueError(f"no control plane answers at {base}; start one with: helmr-local serve") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"what answers at {base} is no local control plane") from None
    return str(key)
