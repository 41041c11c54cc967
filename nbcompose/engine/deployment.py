"""What the supervisor is given to run: a spec with its class packed for the journey to a replica."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace

from nbcompose.host.devices import Placement
from nbcompose.host.owner import owner_environment
from nbcompose.plan import Meaning
from nbcompose.replica.launch import ByImport, ByValue, Launch
from nbcompose.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class Deployment:
    """One version of a service.

    `token`: what its HTTP server wants; None: no token. `folder` and `python_path`: those of the process that
    deploys it. `exposed`: it answers over HTTP; a dependency under `nbcompose serve` does not. `heavy`: it uses the
    libraries that the zygote imports, so it waits for them instead of starting cold. `meaning`: what its class means,
    to be compared with another version's; None where versions are not compared. `swappable`: the class by value, where
    replicas import it.
    """

    spec: ServiceSpec
    origin: ByValue | ByImport = field(repr=False)
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    exposed: bool = True
    heavy: bool = True
    meaning: Meaning | None = field(default=None, repr=False)
    swappable: ByValue | None = field(default=None, repr=False)
    folder: str = field(default_factory=os.getcwd)
    python_path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    @property
    def code(self) -> ByValue | None:
        """The class as replicas that run can take it; None where they can only import it anew."""
        return self.swappable or (self.origin if isinstance(self.origin, ByValue) else None)

    def launch(self, index: int, slot: int, placement: Placement) -> Launch:
        """What replica `index` is told, but for the routes."""
        environment = {**os.environ, **self.spec.envs, **placement.env, **owner_environment()}
        return Launch(
            spec=replace(self.spec, cls=object),
            index=index,
            slot=slot,
            origin=self.origin,
            environment=environment,
            folder=self.folder,
            python_path=self.python_path,
            torch_threads=placement.torch_threads,
            routes=(),
            token=self.token,
            exposed=self.exposed,
            heavy=self.heavy,
            allowed_hosts=self.allowed_hosts,
            gpus=placement.gpus,
        )
