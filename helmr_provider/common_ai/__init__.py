"""Helmr behind the interfaces of Airflow's common-ai provider, which are experimental there. Extra: ``common-ai``.

The interfaces require tags, and specifications that are kept or refused. Metadata serve as tags; a specification that
Helmr cannot keep is refused, so a blocked network needs a sandbox with ``{"internet": false}``. No conversations.
"""
