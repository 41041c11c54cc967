"""Calls that were recorded in a notebook, made again in an exported script, and compared."""
