"""Run fault schedules: ``python -m tests.client.faults --seeds 10000``, or ``--seed 1234`` to replay one.

``make test-faults`` runs this. Most seeds run in memory and in virtual time; the last ones run over sockets.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.client.faults.in_memory import run_in_memory
from tests.client.faults.over_sockets import run_over_sockets, seeds_without_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.client.faults.driver import Outcome


def totals(outcomes: list[Outcome]) -> str:
    """Return how much a number of schedules tried."""
    kinds = Counter(outcome.schedule.flavour for outcome in outcomes)
    faults = Counter(kind for outcome in outcomes for kind in outcome.fired)
    late = {kind: max(outcome.late.get(kind, 0.0) for outcome in outcomes) for kind in ("wait", "subscription")}
    calls = sum(len(outcome.schedule.watches) for outcome in outcomes)
    requests, hours = sum(outcome.requests for outcome in outcomes), sum(outcome.seconds for outcome in outcomes) / 3600
    return (
        f"{len(outcomes)} seeds ({kinds['async']} of the asynchronous client, {kinds['sync']} of the blocking one), "
        f"{calls} waits and subscriptions, {requests} requests, {hours:.1f} hours of virtual time\n"
        f"{faults.total()} faults: {', '.join(f'{kind} {number}' for kind, number in faults.most_common())}\n"
        f"latest after the end and the last fault: {', '.join(f'{kind} {at:.0f} s' for kind, at in late.items())}\n"
        f"{sum(bool(outcome.wrong) for outcome in outcomes)} seeds failed"
    )


def _quiet() -> None:
    # That waits continue although requests fail is the point here.
    logging.getLogger("helmr_provider").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").propagate = False
    logging.getLogger("asyncio").addHandler(logging.NullHandler())


def in_memory(seeds: range, processes: int) -> list[Outcome]:
    """Run schedules in memory, and print what fails as it fails."""
    outcomes: list[Outcome] = []
    with multiprocessing.Pool(processes, _quiet, maxtasksperchild=500) as pool:
        for outcome in pool.imap_unordered(run_in_memory, seeds, chunksize=10):
            outcomes.append(outcome)
            if outcome.wrong:
                print(outcome.report(), "\n", flush=True)
            if len(outcomes) % 1000 == 0:
                print(f"{len(outcomes)} of {len(seeds)}", file=sys.stderr, flush=True)
    return outcomes


def over_sockets(seeds: Sequence[int], *, hurried: bool) -> list[Outcome]:
    """Run schedules over sockets, and print what fails."""
    outcomes = run_over_sockets(seeds, hurried=hurried)
    for outcome in outcomes:
        if outcome.wrong:
            print(outcome.report(), "\n", flush=True)
    return outcomes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.client.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed, and print its schedule")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many seeds run in memory (default: 10000)")
    parser.add_argument("--sockets", type=int, default=0, help="how many seeds run over sockets, too (default: 0)")
    parser.add_argument(
        "--unhurried",
        action="store_true",
        help="over sockets, take seeds that need no time limit, and set none that a busy machine could pass",
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    options: Any = parser.parse_args(arguments)
    _quiet()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of what a seed decides.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.client.faults", *(arguments or sys.argv[1:])])
    if options.seed is not None:
        outcomes = (
            run_over_sockets([options.seed], hurried=not options.unhurried)
            if options.sockets
            else [run_in_memory(options.seed)]
        )
        print(outcomes[0].report() if outcomes[0].wrong else outcomes[0].schedule)
        print(totals(outcomes))
        return int(bool(outcomes[0].wrong))
    memory, real = (range(options.first, options.first + number) for number in (options.seeds, options.sockets))
    began = time.monotonic()
    failed = _print("in memory", in_memory(memory, options.processes), began) if memory else False
    began = time.monotonic()
    chosen = seeds_without_limits(options.sockets) if options.unhurried else real
    outcomes = over_sockets(chosen, hurried=not options.unhurried) if real else []
    return int((_print("over sockets", outcomes, began) if real else False) or failed)


def _print(where: str, outcomes: list[Outcome], began: float) -> bool:
    print(f"{where}, {time.monotonic() - began:.0f} s: {totals(outcomes)}\n", flush=True)
    return any(outcome.wrong for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
