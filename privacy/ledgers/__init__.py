"""What each client has spent, on disk before it is spent."""
