"""Rounds from first to last, and the run on disk."""
