"""Helpers shared by the rooms, and checks for explainers of one's own."""
