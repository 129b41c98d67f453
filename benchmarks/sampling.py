"""What the triggerers of a running Airflow use, and what their logs say."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from dev.processes import Program
    from dev.stack import Stack

TROUBLE = re.compile(r"was never retrieved|Unclosed |was destroyed but it is pending")
# Airflow's own warning. A busy machine causes it, too, so it is reported and decides nothing.
BLOCKED = "async thread was blocked"


@dataclass
class Sample:
    """The triggerers at one moment, with all their processes."""

    at: float
    deferred: int
    rss: int
    sockets: int
    cpu: float


def triggerers(stack: Stack) -> list[Program]:
    return [program for name, program in stack.programs.items() if name.startswith("triggerer")]


def sample(stack: Stack, deferred: int = 0) -> Sample:
    rss, sockets, cpu = 0, 0, 0.0
    for program in triggerers(stack):
        assert program.process is not None
        parent = psutil.Process(program.process.pid)
        for each in [parent, *parent.children(recursive=True)]:
            with each.oneshot():
                rss += each.memory_info().rss
                sockets += len(each.net_connections())
                cpu += sum(each.cpu_times()[:2])
    return Sample(time.monotonic(), deferred, rss, sockets, cpu)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
