from .layout import streaming as streaming
from .rendering import data_url as data_url
from .rendering import drawing as drawing
from .rendering import size as size
from .rendering import svg as svg
from .rendering import table_html as table_html
from .rendering import tree as tree
