"""What nbcompose costs beside a yardstick taken in the same run; `README.md` says how to read it."""
