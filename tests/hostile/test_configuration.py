"""B43: wrong configuration is told whole, with the name that was meant, and nothing is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from flare_async import Limits
from flare_async.arguments import configured
from flare_async.errors import ConfigError, ConfigErrors, LimitsError, UnknownArgument


@configured(least=1)
@dataclass(kw_only=True)
class Plan:
    """Checks its arguments one after the other, as recipes and environments do."""

    least: int
    rounds: int = 2
    rate: float = 0.1
    sites: int = 0

    def __post_init__(self) -> None:
        made.append(self)
        for name in ("rounds", "least"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "at least 1 is needed")
        if self.rate != self.rate or self.rate < 0:
            raise ConfigError("rate", self.rate, "a number from 0 is needed")
        if self.sites and self.least > self.sites:
            raise ConfigError("sites", self.sites, f"below least={self.least}")
        ready.append(self)


made: list[Plan] = []
ready: list[Plan] = []


def refused(**arguments: object) -> ConfigError:
    """Return the error of a call, which must not have made anything."""
    ready.clear()
    with pytest.raises(ConfigError) as caught:
        Plan(**arguments)  # type: ignore[arg-type]
    return caught.value


def test_b43_all_problems_of_a_call_are_told_at_once_with_its_line() -> None:
    """Wrong values, a contradiction and two misspelt names; each check is written once."""
    error = refused(least=5, rounds=0, rate=float("nan"), sites=3, ruonds=7, zzz=1)
    assert isinstance(error, ConfigErrors)
    assert [problem.field for problem in error.problems] == [
        *("ruonds", "zzz", "rounds", "rate", "sites")
    ]
    assert str(error).splitlines()[1:] == [
        "  Plan has no argument 'ruonds'; did you mean rounds?",
        "  Plan has no argument 'zzz'",
        "  rounds=0: at least 1 is needed",
        "  rate=nan: a number from 0 is needed",
        "  sites=3: below least=5",
    ]
    assert (error.field, error.code, error.exit_status) == ("ruonds", "config", 2)
    assert error.where.startswith(f"{Path(__file__)}:")


def test_b43_one_problem_is_told_as_it_is() -> None:
    """With its own class, field and value."""
    error = refused(least=1, rounds=-4)
    assert (type(error), error.field, error.value) == (ConfigError, "rounds", -4)
    unknown = refused(least=1, rats=0.5)
    assert isinstance(unknown, UnknownArgument)
    assert isinstance(unknown, TypeError), "as Python has it for any call"
    assert (unknown.near, unknown.hint) == ("rate", "did you mean rate?")


def test_b43_what_is_needed_and_wrong_does_not_hide_the_rest() -> None:
    """The rest is tried with a value that passes; one that was not given is nobody's fault."""
    error = refused(least=0, rate=-1.0, rounds=0)
    assert isinstance(error, ConfigErrors)
    assert [problem.field for problem in error.problems] == ["rounds", "least", "rate"]
    assert refused(least=4, sites=3).field == "sites"
    assert refused(leats=0, rounds=1).field == "leats"


def test_b43_what_is_missing_is_told_as_python_tells_it() -> None:
    """And what was misspelt is taken for what was meant, so that it is one problem."""
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'least'"):
        Plan(rounds=0)  # type: ignore[call-arg]
    error = refused(leest=1, rounds=2)
    assert (type(error), error.field) == (UnknownArgument, "leest")


def test_b43_the_value_of_a_misspelt_name_is_not_shown() -> None:
    """It may be a secret, or a model."""
    error = refused(least=1, pasword="hunter2", rounds=0)
    assert "hunter2" not in str(error)
    assert "hunter2" not in str(refused(least=1, pasword="hunter2"))


def test_b43_a_right_call_is_made_once_and_looks_like_itself() -> None:
    """Signature, name and document are those of the class."""
    made.clear()
    assert Plan(least=1).rounds == 2
    assert (len(made), Plan.__name__) == (1, "Plan")
    assert "rounds: 'int' = 2" in str(__import__("inspect").signature(Plan))


def test_b43_limits_name_what_was_meant() -> None:
    """With all contradictions of the rest."""
    with pytest.raises(UnknownArgument, match="no argument 'stall_time'; did you mean stall_timeo"):
        Limits(stall_time=5.0)  # type: ignore[call-arg]
    with pytest.raises(ConfigErrors) as caught:
        Limits(window_byte=1, stall_timeout=0.5, window_bytes=2**26)  # type: ignore[call-arg]
    names, limits = caught.value.problems
    assert (names.field, isinstance(limits, LimitsError)) == ("window_byte", True)
    assert isinstance(limits, LimitsError)
    assert len(limits.problems) == 2
    assert Limits(stall_timeout=5.0) == Limits(stall_timeout=5.0)
