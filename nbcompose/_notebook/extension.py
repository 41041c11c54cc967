"""Extension entry points (`%load_ext`, `%unload_ext`, `%reload_ext nbcompose`): hooks into
IPython, and removes them.
"""

from __future__ import annotations

import atexit
import contextlib
import sys

from IPython.core.interactiveshell import InteractiveShell

from nbcompose._control import Registry
from nbcompose._ipython_adapter import is_reloading
from nbcompose._notebook import session as sessions
from nbcompose._notebook import tracebacks
from nbcompose._notebook.completion import MATCHER, Completer
from nbcompose._notebook.magics import NbcomposeMagics
from nbcompose._notebook.rendering import NotebookContext
from nbcompose._notebook.session import Session
from nbcompose._service import add_connector
from nbcompose._tracing import install

KEEP = 60.0  # seconds that a replaced version is kept, for `%services rollback`
WIDGET = "nbcompose._notebook.graph.widget"
MAGICS = (("cell", "service"), ("line", "services"), ("line", "graph"), ("line", "export"))


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add the magics to IPython, and start what services need in the background. Services that run already go on.

    Args:
        shell: The IPython shell of the notebook.
    """
    session = sessions.current(shell)
    if session is None:
        registry = Registry(keep=KEEP)
        session = Session(shell, registry)
        registry.start(NotebookContext(session))
        atexit.register(registry.stop)
        session.history.start()
        sessions.keep(shell, session)
    _unhook(shell)  # what an earlier load, by another copy of this module, has left
    session.disconnect()
    session.disconnect = add_connector(session.connect)
    install(session.registry.collect_traces)
    tracebacks.install(shell)
    magics = NbcomposeMagics(session)
    shell.register_magics(magics)
    shell.configurables.append(magics)  # for %config
    shell.events.register("post_run_cell", magics.look)
    shell.Completer.custom_matchers.append(Completer(session).match)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics and stop all services; before a reload the services go on.

    Args:
        shell: The IPython shell of the notebook.
    """
    _unhook(shell)
    session = sessions.current(shell)
    if session is None or is_reloading():
        return
    widgets = sys.modules.get(WIDGET)  # imported once a graph has been shown
    if widgets is not None:
        widgets.leave_all()
    for name in list(session.lingering):
        session.stop_lingering(name)
    session.history.stop()
    sessions.keep(shell, None)
    session.disconnect()
    install(None)
    tracebacks.install(None)
    atexit.unregister(session.registry.stop)
    session.registry.stop()


def _unhook(shell: InteractiveShell) -> None:
    for kind, name in MAGICS:
        shell.magics_manager.magics[kind].pop(name, None)
    # By name: an earlier load may have registered another copy of the class.
    for known in [c for c in shell.configurables if type(c).__name__ == NbcomposeMagics.__name__]:
        shell.configurables.remove(known)
        with contextlib.suppress(ValueError):
            shell.events.unregister("post_run_cell", known.look)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != MATCHER]
