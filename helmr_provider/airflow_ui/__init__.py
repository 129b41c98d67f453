"""The Helmr tab in Airflow's interface: a plugin and the small web application that it mounts in the API server.

Nothing imports this package; Airflow loads :mod:`~helmr_provider.airflow_ui.plugin` through the entry point
``airflow.plugins``. It may import the hook and what lies below. FastAPI is imported in ``app.py`` only, and Airflow's
ORM in ``airflow_database.py`` only.
"""
