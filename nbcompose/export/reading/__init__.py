"""Cells as statements: what each one defines, reads and changes. Pure."""
