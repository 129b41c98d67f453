"""Look at what the environment runs, and keep a secret for it."""

from __future__ import annotations

from helmr_provider.client import HelmrClient

with HelmrClient() as client:
    print("release-summary" in {task.task_id for task in client.tasks.list()})  # -> True
    print(client.tasks.retrieve("echo").task_id)  # -> echo
    print(len(client.sandboxes.list()) > 0)  # -> True

    current = client.deployments.current()
    assert current is not None
    print(current.id in {deployment.id for deployment in client.deployments.list()})  # -> True
    print(len(client.deployments.events(current)) > 0)  # -> True

    client.secrets.set("GITHUB_TOKEN", "a value that nobody can read back")
    print([secret.name for secret in client.secrets.list()])  # -> ['GITHUB_TOKEN']
    client.secrets.delete("GITHUB_TOKEN")
    print(client.ready().is_ok)  # -> True
