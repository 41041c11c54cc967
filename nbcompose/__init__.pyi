from . import errors as errors
from . import llms as llms
from . import models as models
from . import settings as settings
from . import streams as streams
from ._control import run as run
from ._control import serve as serve
from ._host import device as device
from ._jupyter import _jupyter_labextension_paths as _jupyter_labextension_paths
from ._jupyter import _jupyter_server_extension_points as _jupyter_server_extension_points
from ._notebook import load_ipython_extension as load_ipython_extension
from ._notebook import unload_ipython_extension as unload_ipython_extension
from ._notebook.graph import graph as graph
from ._service import Service as Service
from ._service import api as api
from ._service import depends as depends
from ._service import on_shutdown as on_shutdown
from ._service import on_startup as on_startup
from ._service import service as service
from ._tracing import cancelled as cancelled
from ._tracing import trace as trace
from ._tracing import traces as traces
from .errors import NbcomposeError as NbcomposeError
from .errors import UnknownArgumentWarning as UnknownArgumentWarning

__version__: str
__all__: list[str]
