"""What tests control and observe: faults, the journal of requests, time, and the `/_local` routes.

May import `execution`, `workspaces`, `state` and what lies below them. The API and the server import it.
"""
