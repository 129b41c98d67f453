"""Collect what the event loop and the control plane complain of while schedules run."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

# Tasks whose exception nobody retrieved, requests that failed, and what the control plane itself could not do.
_LOGGERS = ("asyncio", "uvicorn.error", "helmr_provider.local")


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info and record.exc_info[1]
        self.lines.append(f"logged: {record.name}: {record.getMessage().strip()}: {error!r}")


@contextmanager
def logged_errors() -> Generator[list[str]]:
    """Yield a list of the errors that are logged during the block."""
    errors = _Errors()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(errors)
        logger.setLevel(logging.ERROR)
    try:
        yield errors.lines
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(errors)
            logger.setLevel(level)
