"""Pretraining of the embedded CLIP."""
