"""Clients on machines of their own, on Flower: the only room that imports ``flwr``."""
