"""The declaration API: decorators, dependencies, options; a class becomes a `ServiceSpec`."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
