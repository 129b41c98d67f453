"""The execution of runs: the worker, the context that a task receives, and the sweep of what has come due.

May import `state` and what lies below it.
"""
