"""The SQLite database with its schema, and the files and archives of workspaces.

May import `common`.
"""
