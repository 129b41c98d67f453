"""The session of a task instance: its name, its ownership, its start, and the turns of its input.

Private. It may import ``_common`` and the client. ``identity`` and ``turns`` are pure.
"""
