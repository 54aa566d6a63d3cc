"""What a federated method is, and the data it works on."""
