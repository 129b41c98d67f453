"""Let a browser send to one stream of one session, without the API key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from helmr_provider.client import HelmrPermissionError, PublicScope, auth, sessions

session = sessions.start("wait-for-input").session
credential = auth.create_public_token(
    PublicScope.input(session, "messages", correlation_id="form-1"),
    expires_at=datetime.now(UTC) + timedelta(hours=1),
    max_uses=1,
)
assert credential.public_access_token is not None  # of a new one it never is
print(credential.public_access_token in repr(credential))  # -> False

messages = sessions.open(session).input("messages")
messages.send({"text": "hello"}, correlation_id="form-1", public_access_token=credential.public_access_token)
try:
    messages.send({"text": "again"}, correlation_id="form-1", public_access_token=credential.public_access_token)
except HelmrPermissionError as error:
    print(error.status)  # -> 403
