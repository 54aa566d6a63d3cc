"""How downloads and updates travel between server and clients."""
