"""Declared schedules: read them, check them, plan the changes, show the plan, and apply it.

:class:`HelmrSchedule` and :class:`DeclarationError` are public. Operators may import the private modules, which
themselves import ``_common`` and the client only.
"""

from __future__ import annotations

from helmr_provider.schedules._check import DeclarationError, HelmrSchedule

__all__ = ["DeclarationError", "HelmrSchedule"]
