"""Airflow operators for Helmr."""
