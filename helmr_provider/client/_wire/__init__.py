"""Requests and responses as values: what the runtime API reads and writes. No I/O.

It holds the endpoint table, request bodies, and the parsers of responses, events and byte frames. The other packages
of the client import it; nothing here is public, except what ``helmr_provider.client`` exports by name.
"""
