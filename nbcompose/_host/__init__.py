"""The machine and this process: memory, devices, environment variables, forking, thread state."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
