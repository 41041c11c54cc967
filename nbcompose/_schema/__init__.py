"""Types of arguments and results: annotations to validation, JSON, other media types, and the OpenAPI document."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
