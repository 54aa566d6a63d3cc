"""Atomic files, locks, strict JSON, and deleting only files of this package."""
