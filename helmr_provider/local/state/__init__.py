"""The records of a control plane and their transitions, one module for each resource.

May import `_core`, `storage`, `definitions` and `common`, and knows nothing of HTTP. The API, the console and the
executors import it.
"""
