"""What makes a sample anomalous, and how sure that it is."""

from ._attributor import AnomalyAttributor

__all__ = ["AnomalyAttributor"]
