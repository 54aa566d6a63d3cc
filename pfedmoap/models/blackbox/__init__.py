"""Black-box models: the interface, in-process and HTTP implementations, and a server."""
