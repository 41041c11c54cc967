"""A slice as a script, with its requirements, the values that it loads, and what a container needs."""
