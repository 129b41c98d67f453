"""The listening socket, and options of single connections.

Imports no other package of the control plane.
"""
