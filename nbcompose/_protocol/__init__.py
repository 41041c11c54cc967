"""The runtime protocol: how processes that run services are found, and asked in JSON, whatever environment they are in.

Imports the standard library and `nbcompose.errors` only: clients run in other environments than kernels.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
