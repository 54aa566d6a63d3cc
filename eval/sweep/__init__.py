"""Sweeps: many trials of one configuration, the best chosen by held-out training images."""
