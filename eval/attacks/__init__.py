"""Hostile clients: what they send, what it does to the others, and which defence stops it."""
