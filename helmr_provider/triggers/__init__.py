"""Airflow triggers for Helmr."""
