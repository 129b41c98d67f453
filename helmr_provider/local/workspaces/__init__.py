"""Live workspaces: their directories, commands, terminals and processes on this machine.

May import `state` and what lies below it; the server starts it.
"""
