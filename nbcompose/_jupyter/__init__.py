"""The extension of Jupyter's server: what runs in kernels and programs, listed, watched and reached through Jupyter.

Imports neither IPython nor torch: the server's environment need not be that of the kernels. All of it runs on the
server's loop, which it never blocks, and nothing here unpickles what another process says.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
