"""A library that cannot be imported."""

raise OSError("libsomething.so.1: cannot open shared object file")
