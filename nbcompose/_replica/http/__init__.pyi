from .access import Access as Access
from .access import is_loopback as is_loopback
from .backend import HttpBackend as HttpBackend
from .server import HttpDoor as HttpDoor
from .server import HttpServer as HttpServer
