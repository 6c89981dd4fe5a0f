"""Grafana dashboards in Python; `python -m helm.dashboards` writes what the chart ships."""
