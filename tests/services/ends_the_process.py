"""A library that takes the process with it when it is imported."""

import os
import sys

print("cannot go on", file=sys.stderr, flush=True)
os._exit(3)
