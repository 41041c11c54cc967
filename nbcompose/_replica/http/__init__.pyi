from .access import Access as Access
from .access import is_loopback as is_loopback
from .asgi import AsgiApp as AsgiApp
from .backend import HttpBackend as HttpBackend
from .backend import metrics_of as metrics_of
from .server import HttpDoor as HttpDoor
from .server import HttpServer as HttpServer
