"""Multiple-choice questions as a data set."""
