"""Benchmarks: each measures the plain way in the same run, and compares what both compute."""
