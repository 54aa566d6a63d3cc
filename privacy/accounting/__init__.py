"""Privacy accounting: epsilon of noisy steps, and the noise that a budget needs."""
