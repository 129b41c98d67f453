"""Airflow sensors for Helmr."""
