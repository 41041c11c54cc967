"""`%graph`: picture of the inference graph, and its live widget."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
