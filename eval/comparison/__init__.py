"""Methods x tasks x seeds: what is run, and what is read off it."""
