"""The output of runs and commands, as lines in the log of a task.

Private. It may import ``_common`` and the client. ``run_logs`` and ``exec_logs`` are pure.
"""
