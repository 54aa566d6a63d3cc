"""Attacks on the mechanisms, correct and deliberately broken."""
