"""The listening socket, and what is done to single connections.

Imports no other package of the control plane.
"""
