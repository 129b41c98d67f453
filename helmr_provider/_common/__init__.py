"""Code that every part of the provider shares.

Errors as Airflow expects them, checks of parameters, steps that either client runs, metrics, OpenLineage, and the
differences between versions of Airflow.

Private. It may import the client, and nothing else of the provider.
"""
