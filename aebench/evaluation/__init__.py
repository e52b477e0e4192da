"""Formulas on arrays: search, vote, metrics, probes, intervals. No files."""
