"""Synthetic attribute scenes: the data that the embedded backbone is pretrained and tested on."""
