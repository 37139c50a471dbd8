"""What recipes say of training scripts: the parameters that all of them share, for each site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from flare_async.errors import ConfigError
from flare_async.jobs.components import ExchangeFormat
from flare_async.jobs.scripts.script import Script
from flare_async.jobs.site import Plain
from flare_async.jobs.site_options import check_arguments, check_options
from flare_async.jobs.work import Framework, TrainFunction
from flare_async.model import ParamsType

__all__ = ["ScriptOptions", "SiteWork"]

OWN_SITE: Final = frozenset({"server", "@ALL"})  # NVFlare's names for what is no site
SCRIPT_KEYS: Final = (
    *("train_script", "train_args", "launch_external_process", "command"),
    *("launch_once", "shutdown_timeout"),
)
OTHER_KEYS: Final = ("framework", "server_expected_format", "params_transfer_type")
FRAMEWORKS: Final[Mapping[str, Framework]] = {
    "pytorch": "torch",
    "torch": "torch",
    "numpy": "numpy",
    "jax": "numpy",
    "keras": "tensorflow",
    "sklearn": "numpy",
    "tensorflow": "tensorflow",
    "xgboost": "numpy",
}
BY_MODEL: Final = frozenset({None, "raw"})


@dataclass(frozen=True, slots=True)
class SiteWork:
    """What one site runs: a script or the recipe's function; how params come and go; its options.

    ``framework`` is None where the model decides.
    """

    script: Script | None
    config: Mapping[str, Plain]
    framework: Framework | None
    transfer: ParamsType


@dataclass(kw_only=True, eq=False)
class ScriptOptions:
    """The parameters for functions, scripts and sites that recipes have in common.

    ``train_script`` is a file that calls ``flare_async.client``; by default it runs in a thread
    of a simulation, with ``launch_external_process`` as ``command train_script train_args`` in a
    process of its own. ``per_site_config`` gives single sites other values of the parameters for
    scripts, ``framework``, ``server_expected_format`` and ``params_transfer_type``; its other keys
    are options of the site, over ``train_config``.
    """

    train: TrainFunction | None = None
    train_script: str | Path | None = None
    train_args: str = ""
    launch_external_process: bool = False
    command: str = "python3 -u"
    launch_once: bool = True  # False: a process for each task
    shutdown_timeout: float = 0.0  # seconds that a process may take to end by itself
    cuda_empty_cache: bool = False  # after each result
    framework: str | None = None  # of the params in scripts and functions; None: the model's
    server_expected_format: str = "numpy"  # bytes travel: accepted for recipes that give one
    train_config: Mapping[str, Plain] | None = None  # every site's options
    per_site_config: Mapping[str, Mapping[str, Plain]] | None = None
    params_transfer_type: str = ParamsType.FULL  # DIFF: sites send what they changed

    def check_scripts(self) -> None:
        """Check everything that can be checked before the sites are known.

        Raises:
            ConfigError: a parameter cannot be used; the error names it, and the site.
        """
        if self.train is not None and self.train_script is not None:
            hint = "give one of train= and train_script="
            raise ConfigError("train", self.train, f"train_script={self.train_script!r} too", hint)
        self._check_options()
        named = {site: dict(config) for site, config in (self.per_site_config or {}).items()}
        for site in sorted(OWN_SITE & named.keys()):
            raise ConfigError("per_site_config", site, "is no site", "name sites")
        if self.train is None and self.train_script is None:
            lacking = [site for site, config in named.items() if "train_script" not in config]
            if lacking or not named:
                hint = "give train=function(model, site) or train_script=path"
                raise ConfigError("train", None, "no training function and no script", hint)
        default = self.train is not None or self.train_script is not None
        sites = [*([""] if default else []), *named]
        # Made once: whether the files exist is not asked again while an event loop waits.
        self._by_site = {site: self._made(site) for site in sites}

    def _check_options(self) -> None:
        check_options("train_config", self.train_config)
        check_arguments("train_args", self.train_args)
        for site, config in (self.per_site_config or {}).items():
            check_options(f"per_site_config.{site}", config)
            check_arguments(f"per_site_config.{site}.train_args", config.get("train_args"))

    @property
    def has_layers(self) -> bool:
        """Whether a Keras model's arrays travel by layer: scripts have them so unless told."""
        return any(
            work.framework == "tensorflow" or (work.framework is None and work.script is not None)
            for work in self._by_site.values()
        )

    @property
    def sites_with_work(self) -> tuple[str, ...]:
        """The sites that have work of their own; "" stands for all others."""
        return tuple(self._by_site)

    def site_work(self, site: str) -> SiteWork:
        """Return what a site runs.

        Raises:
            ConfigError: the recipe has no function and no script for that site.
        """
        found = self._by_site.get(site) or self._by_site.get("")
        if found is None:
            hint = "name it in per_site_config, or give train_script= for all others"
            raise ConfigError("train_script", None, f"{site} has no script", hint)
        return found

    def _made(self, site: str) -> SiteWork:
        own = dict((self.per_site_config or {}).get(site, {}))
        given: dict[str, Plain] = {
            key: own.pop(key) for key in (*SCRIPT_KEYS, *OTHER_KEYS) if key in own
        }
        try:
            return SiteWork(
                script=self._script(given),
                config={**(self.train_config or {}), **own},
                framework=_framework(given.get("framework", self.framework)),
                transfer=self._transfer(given),
            )
        except ConfigError as exc:
            if not given or exc.field not in given:
                raise
            field = f"per_site_config.{site}.{exc.field}"
            problem = str(exc).partition(": ")[2]
            raise ConfigError(field, exc.value, problem) from exc

    def _script(self, given: Mapping[str, Plain]) -> Script | None:
        path = given.get("train_script", self.train_script)
        if path is None or (self.train is not None and "train_script" not in given):
            for key in SCRIPT_KEYS:
                if key in given:
                    raise ConfigError(key, given[key], "is for scripts; this site has train=")
            return None
        values = {key: given.get(key, getattr(self, key)) for key in SCRIPT_KEYS}
        return Script(
            path=_path(values["train_script"]),
            args=_text("train_args", values["train_args"]),
            external=_flag("launch_external_process", values["launch_external_process"]),
            command=_text("command", values["command"]),
            launch_once=_flag("launch_once", values["launch_once"]),
            shutdown_timeout=cast("float", values["shutdown_timeout"]),  # the script checks it
            cuda_empty_cache=_flag("cuda_empty_cache", self.cuda_empty_cache),
        )

    def _transfer(self, given: Mapping[str, Plain]) -> ParamsType:
        wanted = given.get("server_expected_format", self.server_expected_format)
        formats = [str(member) for member in ExchangeFormat]
        if wanted not in formats:
            raise ConfigError("server_expected_format", wanted, f"use one of {formats}")
        kind = given.get("params_transfer_type", self.params_transfer_type)
        known = [str(member) for member in ParamsType]
        if kind not in known:
            raise ConfigError("params_transfer_type", kind, f"not in {known}")
        return ParamsType(str(kind))


def _framework(name: object) -> Framework | None:
    if name in BY_MODEL:
        return None
    if not isinstance(name, str) or name not in FRAMEWORKS:
        raise ConfigError("framework", name, f"use one of {', '.join(FRAMEWORKS)}, raw")
    return FRAMEWORKS[name]


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ConfigError("train_script", value, "the path of a Python file is needed")
    return Path(value).expanduser().absolute()


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(field, value, "text is needed")
    return value


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(field, value, "True or False is needed")
    return value
