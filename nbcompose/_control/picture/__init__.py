"""The picture of a graph: where services and the lines between them are, as SVG, as a tree and as a table."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
