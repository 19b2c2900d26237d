"""What the commands say of themselves."""

from __future__ import annotations

import re

import click
import pytest

from restate_pubsub.commands.group import group

OPTIONS = [
    pytest.param(option.help, id=f"{name} {option.opts[0]}")
    for name, command in group.commands.items()
    for option in command.params
    if isinstance(option, click.Option)
]


@pytest.mark.parametrize("text", OPTIONS)
def test_the_help_of_an_option_is_a_sentence(text: str) -> None:
    """With more than one word, and a full stop; a default may follow."""
    assert re.fullmatch(r"[A-Z]\S* .*\.(  \[default: .*\])?", text)


@pytest.mark.parametrize("name", group.commands)
def test_the_help_of_a_command_begins_with_a_sentence(name: str) -> None:
    """It is what the list of commands shows."""
    first = (group.commands[name].help or "").split("\n\n")[0]
    assert re.fullmatch(r"[A-Z]\S* .*\.", first, re.DOTALL)
