"""Airflow operators for Helmr.

Each module or package here is public under the name that ``docs/operators.md`` gives; modules that start with an
underscore are shared base classes. Operators may import everything below them, but no decorator.
"""
