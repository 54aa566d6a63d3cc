"""One federated round, and the simulation of all rounds in this process."""
