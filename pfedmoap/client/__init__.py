"""Local training: batches, gradients, optimisers, over a leading client axis."""
