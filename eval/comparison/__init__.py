"""Comparisons of methods x tasks x seeds: running them, and their tables."""
