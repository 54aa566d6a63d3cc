"""One run on disk: its folder, manifest and log, and which part of it others may read."""
