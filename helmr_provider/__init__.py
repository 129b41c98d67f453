"""Apache Airflow provider for Helmr, with a runtime client and a local control plane."""

__version__ = "0.1.0"
