"""Questions to people: their content and answers, their tokens in Helmr, and Airflow's Required Actions.

Private. It may import ``_sessions``, ``_common`` and the client. ``question`` is pure.
"""
