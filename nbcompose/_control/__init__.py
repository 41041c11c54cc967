"""Owner side: registry, supervisors, generations, engines, and `serve` for use without Jupyter."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
