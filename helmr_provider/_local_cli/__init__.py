"""The command `helmr-local`: serve a local control plane, and inspect and use one that runs.

Imports the local control plane to serve it and the client to speak to it, each only when a command needs it. Nothing
imports this package; `python -m helmr_provider.local` loads it by name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from helmr_provider._local_cli.parser import parser

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130
_NEEDED = "airflow-provider-helmr[local]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    :param arguments: the command line without the command's name; that of the process if absent.
    """
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("helmr_provider"):
            raise
        return _failed(f"the package {error.name.partition('.')[0]} is missing; install {_NEEDED}")
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has seen enough.
        sys.stderr.close()
        return 0
    except Exception as error:
        if not _is_expected(error):
            raise
        return _failed(str(error))
    return status


def _is_expected(error: Exception) -> bool:
    from helmr_provider.client.errors import HelmrError

    # DatabaseError is a class of the storage, which only `serve` imports.
    return isinstance(error, OSError | ValueError | HelmrError) or type(error).__name__ == "DatabaseError"


def _failed(text: str) -> int:
    sys.stderr.write(f"helmr-local: {text}\n")
    return 1
