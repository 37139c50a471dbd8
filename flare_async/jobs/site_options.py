"""What users write into options of sites: checked where a recipe is made, before anything starts.

Options travel to every site, into logs of theirs and into job folders. A password has no place
there: a site reads its own from its own environment.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from flare_async.errors import ConfigError, ConfigErrors

__all__ = ["check_arguments", "check_options", "check_secrets", "check_weights"]

# Whole words of a name. A bare "token" is a secret, one of a vocabulary ("pad_token") is none.
SECRET: Final = re.compile(
    r"(?:^|[_.-])(?:password|passwd|passphrase|secret|credentials?"
    r"|(?:api|access|private|secret)[_-]?key)(?:$|[_.-])"
    r"|^token$|(?:^|[_.-])(?:auth|access|api|bearer|hf|refresh|session)[_-]?token$",
    re.IGNORECASE,
)
IN_VAIN: Final = "a site that is not to count would train in vain: leave it out of the run"
HINT: Final = "let the site read it from its own environment or files"


def check_options(field: str, options: object) -> None:
    """Check the options of sites, all of them at once.

    Raises:
        ConfigError: they are no dict; a number is NaN; or a name is that of a secret.
    """
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise ConfigError(field, options, "a dict is needed")
    raise_found(field, [*secrets(field, options), *not_numbers(field, options)])


def check_secrets(field: str, options: Mapping[str, object]) -> None:
    """Refuse names of secrets. Raises ConfigError."""
    raise_found(field, list(secrets(field, options)))


def check_arguments(field: str, text: object) -> None:
    """Refuse a secret among the words of a command line. Raises ConfigError."""
    try:
        words = shlex.split(text) if isinstance(text, str) else []
    except ValueError:
        return  # the script says so, with the reason
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and SECRET.search(name.lstrip("-")):
            raise secret(f"{field} {name}")


def check_weights(field: str, weights: object) -> None:
    """Check factors of sites: finite numbers above 0. Raises ConfigError."""
    if weights is None:
        return
    if not isinstance(weights, Mapping):
        raise ConfigError(field, weights, "a dict of sites and numbers is needed")
    raise_found(
        field,
        [
            ConfigError(f"{field}.{site}", value, "a finite number above 0 is needed", IN_VAIN)
            for site, value in weights.items()
            if not is_weight(value)
        ],
    )


def is_weight(value: object) -> bool:
    """Return whether a number can weigh."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0


def secrets(field: str, value: object) -> Iterator[ConfigError]:
    """Yield an error for every name of a secret that has a text; the text is not shown."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            inner = f"{field}.{name}"
            if isinstance(name, str) and SECRET.search(name) and isinstance(item, str) and item:
                yield secret(inner)
            else:
                yield from secrets(inner, item)
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from secrets(f"{field}[{at}]", item)


def secret(field: str) -> ConfigError:
    """Return the error of a secret, which it does not show."""
    return ConfigError(field, "...", "is a secret: options travel to every site", HINT)


def not_numbers(field: str, value: object) -> Iterator[ConfigError]:
    """Yield an error for every NaN."""
    if isinstance(value, float) and math.isnan(value):
        yield ConfigError(field, value, "is no number")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from not_numbers(f"{field}.{name}", item)
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from not_numbers(f"{field}[{at}]", item)


def raise_found(field: str, problems: list[ConfigError]) -> None:
    """Raise one problem as it is, several as one error."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigErrors(field, problems)
