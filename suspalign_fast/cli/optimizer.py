"""Options that describe an optimizer."""

import functools
from typing import Any

import click

from .. import texts
from .options import Command, added


def optimizer_options(command: Command) -> Command:
    """Add the options of an optimizer; the command gets it as `optimizer`."""

    @functools.wraps(command)
    def with_optimizer(*, momentum: float | None, nesterov: bool, **given: Any) -> None:
        command(optimizer=texts.optimizer("--momentum", momentum, nesterov=nesterov), **given)

    return added(
        with_optimizer,
        click.option(
            "--momentum",
            type=float,
            metavar="BETA",
            help="Share of the velocity that is kept in a step, from 0 to below 1.  "
            "[default: plain SGD]",
        ),
        click.option("--nesterov", is_flag=True, help="Nesterov's momentum, not the heavy ball."),
    )
