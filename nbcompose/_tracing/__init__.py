"""Spans of calls, and ways to show traces: tables, waterfalls, Chrome's trace format."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
