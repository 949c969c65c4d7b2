"""Newer prices than the shipped ones: fetched, judged, kept."""
