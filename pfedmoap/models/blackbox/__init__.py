"""Models that can only be asked: the interface, two ways to reach one, and how to learn from it."""
