"""Which devices of this machine each site's training process may see."""

from __future__ import annotations

import re
from typing import Final

from flare_async.errors import ConfigError

__all__ = ["gpu_groups"]

GROUP: Final = re.compile(r"\[([^\[\]]*)\]|([^\[\],\s]+)")
FORM: Final = 'give numbers in groups, one group a site in turn: "[0],[1]" or "[0,1],[2,3]"'


def gpu_groups(config: object) -> tuple[tuple[str, ...], ...]:
    """Return the groups of devices that ``gpu_config`` lists; a number alone is a group of one.

    Raises:
        ConfigError: it has another form.
    """
    if config is None:
        return ()
    if not isinstance(config, str):
        raise ConfigError("gpu_config", config, "text is needed", FORM)
    groups = [_devices(match[1] or match[2] or "") for match in GROUP.finditer(config)]
    between = GROUP.sub("", config).replace(" ", "")
    if not all(groups) or between != "," * (len(groups) - 1) or not groups:
        raise ConfigError("gpu_config", config, "is no list of devices", FORM)
    return tuple(groups)


def _devices(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    return names if all(name.isdecimal() for name in names) else ()
