"""Privacy mechanisms: random streams, sampling, clipping, noise."""
