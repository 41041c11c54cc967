from . import command as command
from .cells import Cell as Cell
from .cells import Looked as Looked
from .exporter import Request as Request
from .exporter import Source as Source
from .exporter import export_to as export_to
