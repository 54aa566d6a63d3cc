"""Models whose weights never leave the server, and the auxiliary models that clients hold."""
