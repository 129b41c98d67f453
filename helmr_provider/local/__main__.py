"""The command `helmr-local`, as `python -m helmr_provider.local`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    :param arguments: the command line without the command's name; that of the process if absent.
    """
    # By name: the command line also uses the client, which the control plane does not import.
    status: int = import_module("helmr_provider._local_cli").main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
