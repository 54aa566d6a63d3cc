"""What a number of noisy steps costs, and how much noise a budget needs."""
