"""Follow what happens to a run, and read what it wrote."""

from __future__ import annotations

from helmr_provider.client import RunFailedEvent, runs, sessions

run = sessions.start("fail", {"message": "the disk is full"}).run

# Each event once and in order, over all attempts, whatever connections drop.
for event in runs.events.subscribe(run):
    if isinstance(event, RunFailedEvent):
        print(event.failure_kind, event.detail["message"])  # -> worker_failed the disk is full

for chunk in runs.logs.follow(run):
    print(chunk.stream, chunk.content)
    # -> stdout b'About to fail\n'
    # -> stderr b'the disk is full\n'

print(runs.logs.retrieve(run).stderr.strip())  # -> the disk is full
print(runs.retrieve(run).is_failed)  # -> True
