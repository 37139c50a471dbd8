"""An asyncio-native runtime for federated learning.

Every role (server, relay, client, trainer) is a coroutine on one event loop; peers talk over links
that carry channels with byte credit; every wait is bounded by progress; tensors are offered by
reference and pulled by whoever needs them. A recipe is an algorithm with a name, an environment
says where it runs, and ``recipe.execute(env)`` returns a finished run::

    from flare_async import FLModel, SimEnv
    from flare_async.recipes import FedAvgRecipe

The names below are imported when they are first used, so that ``import flare_async`` costs a few
milliseconds and loads neither NumPy nor any framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flare_async.errors import FlareError
    from flare_async.jobs.run import Run
    from flare_async.limits import Limits
    from flare_async.model import FLModel, ParamsType
    from flare_async.roles.client import Client
    from flare_async.roles.relay import Relay
    from flare_async.roles.server import Server
    from flare_async.sim.env import SimEnv

__all__ = [
    "Client",
    "FLModel",
    "FlareError",
    "Limits",
    "ParamsType",
    "Relay",
    "Run",
    "Server",
    "SimEnv",
    "__version__",
]

__version__ = "0.1.0"

_MODULES = {
    "Client": "flare_async.roles.client",
    "FLModel": "flare_async.model",
    "FlareError": "flare_async.errors",
    "Limits": "flare_async.limits",
    "ParamsType": "flare_async.model",
    "Relay": "flare_async.roles.relay",
    "Run": "flare_async.jobs.run",
    "Server": "flare_async.roles.server",
    "SimEnv": "flare_async.sim.env",
}


if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a public name on its first use (PEP 562).

        Raises:
            AttributeError: the package has no such name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
