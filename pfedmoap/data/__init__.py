"""Data sets, their partition over clients, and the cache of image features."""
