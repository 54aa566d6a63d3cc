"""Frozen models: CLIPs, language models, protected ones, ones that can only be asked."""
