"""A library that goes through all environment variables when it is imported."""

import os

settings = {name.lower(): value for name, value in os.environ.items()}
