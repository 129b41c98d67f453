"""Airflow operators for Helmr.

The public modules and packages are those in ``docs/reference/operators.md`` and, for earlier DAG files, the modules
that are named an earlier path. Modules that start with an underscore are shared base classes. Operators may import
everything below them, but no decorator.
"""
