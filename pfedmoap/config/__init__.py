"""Typed options: one YAML file, exact names, clear errors."""
