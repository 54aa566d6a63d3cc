"""The contract of methods, as checks that need no test framework."""
