"""Let a run wait for a human's decision."""

from __future__ import annotations

from helmr_provider.client import runs, sessions, tokens

token = tokens.create(timeout="24h", tags=["release"], metadata={"question": "Publish 1.4.0?"})
run = sessions.start("release-summary", {"token_id": token.id}).run
print(token.id in {pending.id for pending in tokens.iter(status="pending")})  # -> True

assert token.callback_url is not None  # of a new token it never is

# Elsewhere: with the API key, with the token's own credential, or through its callback URL without any.
print(tokens.complete_callback(token.callback_url, {"approved": True}).status)  # -> completed
print(token.complete({"approved": True}).status)  # -> already_completed

print(runs.wait(run, timeout=60).output["approved"])  # -> True
print(tokens.create().cancel().status)  # -> cancelled
