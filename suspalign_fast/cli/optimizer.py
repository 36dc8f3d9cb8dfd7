"""Options that describe an optimizer."""

import functools
from typing import Any

import click

from ..optimizer import PLAIN, Momentum, Optimizer
from .options import Command, added


def optimizer_options(command: Command) -> Command:
    """Add the options of an optimizer; the command gets it as `optimizer`."""

    @functools.wraps(command)
    def with_optimizer(*, momentum: float | None, nesterov: bool, **given: Any) -> None:
        command(optimizer=optimizer(momentum, nesterov=nesterov), **given)

    return added(
        with_optimizer,
        click.option(
            "--momentum",
            type=float,
            metavar="BETA",
            help="Share of the velocity that is kept in a step.  [default: plain SGD]",
        ),
        click.option("--nesterov", is_flag=True, help="Nesterov's momentum, with --momentum."),
    )


def optimizer(momentum: float | None, *, nesterov: bool) -> Optimizer:
    """Return the optimizer that the options describe."""
    if momentum is not None:
        try:
            return Momentum(momentum, nesterov=nesterov)
        except ValueError as error:
            raise ValueError(f"--momentum {momentum:g}: {error}") from None
    if nesterov:
        raise ValueError("--nesterov must go with --momentum BETA")
    return PLAIN
