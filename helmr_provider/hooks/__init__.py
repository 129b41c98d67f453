"""Airflow hooks for Helmr."""
