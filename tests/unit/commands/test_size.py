"""`restate-pubsub size`: what it prints."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from restate_pubsub.commands.group import group
from restate_pubsub.commands.sizing import CHECKED, MB, MEASURED, carried, use

PAGE = Path(__file__).parents[3] / "docs" / "scaling.md"


def size(words: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it printed."""
    found = CliRunner().invoke(group, ["size", *words.split()])
    return found.exit_code, found.output


def test_the_examples_in_the_documentation_are_what_the_command_prints() -> None:
    """To the letter, so that a cost that is measured anew comes with its page."""
    examples = re.findall(r"```console\n\$ restate-pubsub size (.*)\n((?:.*\n)*?)```", PAGE.read_text())
    assert len(examples) >= 2
    for words, printed in examples:
        assert (0, printed) == size(words)


def test_the_costs_in_the_documentation_are_those_that_the_command_counts_with() -> None:
    """Every one, and what one core carries at that."""
    text = PAGE.read_text()
    costs = [f"| `{name}` | {value:g} |" for name, value in asdict(MEASURED).items()]
    core = [f"| {name} | {value:,.0f} |" for name, value in carried(MEASURED).items()]
    assert [] == [row for row in [*costs, *core] if row not in text]


def test_the_errors_in_the_documentation_are_of_these_costs() -> None:
    """What the page says was predicted is what is predicted now."""
    text = PAGE.read_text()
    for count in (1, 2, 3):
        calls = re.search(rf"^\| {count} \| calls/s that write \| [\d.]+ \| ([\d.]+) \|", text, re.MULTILINE)
        assert calls, f"the page has no run of {count} replicas"
        made = replace(CHECKED, linger=CHECKED.talking / float(calls[1]))
        stated, called = use(CHECKED, MEASURED, count), use(made, MEASURED, count)
        assert f"| {count} | service, cores | {stated.service:.3g} | {called.service:.3g} |" in text
        assert f"| {count} | Restate, cores | {stated.restate:.3g} | {called.restate:.3g} |" in text
        assert f"| {count} | memory, MB | {stated.memory / MB:.3g} | {called.memory / MB:.3g} |" in text


def test_a_replica_that_may_be_away_is_one_more() -> None:
    """And the others carry the load."""
    few = "--streams 100 --answers-per-minute 10"
    assert re.search(r"replicas +1, of which 0 may be away", size(f"{few} --spare 0")[1])
    assert re.search(r"replicas +3, of which 2 may be away", size(f"{few} --spare 2")[1])


def test_it_says_when_restate_needs_more_partitions_than_it_starts_with() -> None:
    """And nothing of the kind before."""
    assert "more than the 24 it starts with" not in size("--streams 1000 --answers-per-minute 100")[1]
    assert "more than the 24 it starts with" in size("--streams 1000 --answers-per-minute 60000")[1]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("--streams 10", "--answers-per-minute"),
        ("--streams 0 --answers-per-minute 1", "--streams"),
        ("--streams 10 --answers-per-minute 1 --readers 0.5", "--readers"),
        ("--streams 10 --answers-per-minute 1 --readers 11", "--readers"),
        ("--streams 10 --answers-per-minute 1 --busy 1.5", "--busy"),
        ("--streams 1e12 --answers-per-minute 1", "replicas"),
    ],
)
def test_a_load_that_cannot_be_is_refused(words: str, rule: str) -> None:
    """With exit code 2, and what is wrong."""
    code, printed = size(words)
    assert 2 == code
    assert rule in printed
