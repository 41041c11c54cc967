from .access import Access as Access
from .access import is_loopback as is_loopback
from .backend import Outside as Outside
from .server import Door as Door
from .server import HttpServer as HttpServer
