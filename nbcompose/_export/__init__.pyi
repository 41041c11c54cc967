from . import command as command
from .cells import Cell as Cell
from .cells import Looked as Looked
from .exporter import Exported as Exported
from .exporter import NotebookSource as NotebookSource
from .exporter import Request as Request
from .exporter import export_to as export_to
from .magics import service_line as service_line
