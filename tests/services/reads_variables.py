"""A library that looks at environment variables when it is imported, in all the ways there are, and sets some."""

import os

found = [
    os.environ.get("READ_BY_GET"),
    os.getenv("READ_BY_GETENV"),
    "READ_BY_IN" in os.environ,
    os.environb.get(b"READ_AS_BYTES"),
    os.environ.setdefault("READ_BY_SETDEFAULT", "a default"),
]
try:
    found.append(os.environ["READ_BY_ITEM"])
except KeyError:
    found.append(None)

# What is its own: nobody outside has a part in it.
os.environ["SET_AT_IMPORT"] = "by the library"
found.append(os.environ["SET_AT_IMPORT"])


def later():
    return os.environ.get("READ_LATER")
