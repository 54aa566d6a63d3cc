"""Ledgers of each client's privacy budget, written before anything is spent."""
