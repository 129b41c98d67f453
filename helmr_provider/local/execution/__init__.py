"""The execution of runs: the worker, the context that a task receives, and the sweep of due times.

May import `state` and what lies below it.
"""
