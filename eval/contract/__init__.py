"""What every method must do, as checks that need no test framework."""
