"""The scheduling of waits: one poll and stream plan for everything that a client waits for.

The scheduler and its parts decide and do no I/O; ``async_waiter`` and ``sync_waiter`` act on the decisions. The clients
in ``_async`` and ``_sync`` import this package; nothing here is public, except through a client.
"""
