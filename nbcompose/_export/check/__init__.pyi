from .checking import Report as Report
from .checking import check as check
from .checking import plan as plan
from .checking import words as words
from .recording import LARGEST as LARGEST
from .recording import LIMIT as LIMIT
from .recording import RecordedTransport as RecordedTransport
from .recording import Recording as Recording
