"""What a privacy officer asks of a run: a plan before it, and a sealed statement after it."""
