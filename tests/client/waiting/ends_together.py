"""A simulated control plane whose runs all end within one window."""

from __future__ import annotations

from benchmarks.slow_answers import Simulation


class Together(Simulation):
    """Every run lives until a moment within one window."""

    window = (120.0, 180.0)

    def start(self) -> None:
        super().start()
        run_id = next(reversed(self.ends))
        self.ends[run_id] = self.random.uniform(*self.window)
        self.at(self.ends[run_id], self.end)

    def end(self) -> None:
        self.ended = sum(end <= self.now for end in self.ends.values())
