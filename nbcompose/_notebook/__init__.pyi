from . import session as session
from .display import Bundle as Bundle
from .display import LiveDisplay as LiveDisplay
from .display import OutputAnchor as OutputAnchor
from .magics import load_ipython_extension as load_ipython_extension
from .magics import unload_ipython_extension as unload_ipython_extension
from .session import Session as Session
from .tracebacks import from_the_caller as from_the_caller
