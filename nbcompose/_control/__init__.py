"""The owner of all replicas: registry, supervisors, versions, engines, `serve`."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
