"""FedBN at a site: tensors that stay there, put back into every model that comes."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Final

import numpy as np

__all__ = ["LocalTensors"]

KEY: Final = "local_tensors"


class LocalTensors:
    """The tensors of a site whose names match ``pattern``, kept in ``state`` from round to round.

    ``FedBNRecipe`` gives the pattern as the site's option "local_vars"; ``state`` is ``site.state``
    or a dict of the script's own. A copy is kept, so what was trained may go on living.
    """

    def __init__(self, pattern: str, state: MutableMapping[str, object]) -> None:
        self._pattern = re.compile(pattern)
        kept = state.setdefault(KEY, {})
        if not isinstance(kept, dict):
            raise TypeError(f"state[{KEY!r}] is {type(kept).__name__}, not what was kept there")
        self._kept: dict[str, object] = kept

    def restore(self, params: MutableMapping[str, object]) -> None:
        """Put the site's own values into what came; in the first round there are none."""
        for name, value in self._kept.items():
            if name in params:
                params[name] = copied(value)

    def keep(self, params: Mapping[str, object]) -> None:
        """Keep what was trained, such as ``net.state_dict()``."""
        for name, value in params.items():
            if self._pattern.search(name):
                self._kept[name] = copied(value)


def copied(value: object) -> object:
    """Return a copy of an array, a tensor, or a list of arrays."""
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    clone = getattr(value, "clone", None)
    return clone() if callable(clone) else np.array(value)
