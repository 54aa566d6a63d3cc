"""Data sets, their split over clients, and the cache of image features."""
