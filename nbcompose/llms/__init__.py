"""Language models behind services: one interface, prompts that may contain streams, and answers that are streams."""

from lazy_loader import attach_stub

# Importing this loads neither torch nor transformers: what needs them imports them when a model is made.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
