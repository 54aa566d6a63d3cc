"""What a maintainer would ask first: versions, machine, cache, and a backbone put to the test."""
