"""The HTTP API under `/api`, one module for each resource: request bodies, responses, streams and routes.

May import `testing`, `state` and what lies below them; only the server imports it.
"""
