"""Models whose weights never leave the server, and the auxiliaries that stand in for them."""
