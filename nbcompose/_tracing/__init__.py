"""Spans of calls, and how traces are shown: tables, waterfalls, Chrome's trace format."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
