"""Files that are whole or absent, locks, strict JSON, and deleting only what is ours."""
