"""Run commands in a workspace, and read the files that they leave."""

from __future__ import annotations

import time

from helmr_provider.client import default_client, workspaces

sandbox = default_client().sandboxes.list()[0]
workspace = workspaces.open(workspaces.create(sandbox.sandbox_id, external_id="ticket-7", tags=["demo"]))

command = workspace.exec(["sh", "-c", "cat > greeting.txt; cat greeting.txt"])
command.stdin.write("hello world\n", offset=0)
command.stdin.close()
for chunk in command.stdout.stream():
    print(chunk.content)  # -> b'hello world\n'
print(command.wait(timeout=60).exit_code)  # -> 0

terminal = workspace.pty.create(cols=80, rows=24)
terminal.wait_until_open(timeout=60)
terminal.input("exit\n", offset=0)
b"".join(chunk.content for chunk in terminal.output.stream())

# Stopping captures a version, and files are read from the current one.
while workspace.stop().state != "no_active_materialization":
    time.sleep(0.05)
print([entry.path for entry in workspace.files.iter()])  # -> ['greeting.txt']
print(workspace.files.read("greeting.txt"))  # -> b'hello world\n'
newest = workspace.versions.list()[0]
print(newest.id == workspace.retrieve().current_version_id)  # -> True
print(workspace.delete().state)  # -> archived
