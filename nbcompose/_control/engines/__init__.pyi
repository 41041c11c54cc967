from .base import NOT_WARM as NOT_WARM
from .base import Engine as Engine
from .base import ReplicaProcess as ReplicaProcess
from .local import LocalEngine as LocalEngine
