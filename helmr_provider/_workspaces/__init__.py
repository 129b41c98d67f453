"""Which task instance a workspace belongs to, and what a task may do to it.

Private. It may import ``_sessions``, ``_common`` and the client.
"""
