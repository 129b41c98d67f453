"""Helmr behind the interfaces of Airflow's common-ai provider, which are experimental there. Extra: ``common-ai``."""
