"""The runbook has an entry for whatever calls for one."""

from __future__ import annotations

import re

import yaml

from restate_pubsub.web.round_trip import CODES
from support.harness import ROOT

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ENTRIES = {
    re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(r"^#+ (.*)$", RUNBOOK, re.MULTILINE)
}


def test_every_alert_leads_to_its_entry() -> None:
    """By the link that the alert carries."""
    rules = yaml.safe_load((ROOT / "config" / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert rules
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / page).read_text() == RUNBOOK
        assert anchor == rule["alert"].lower()
        assert anchor in ENTRIES


def test_links_within_the_runbook_lead_somewhere() -> None:
    """An entry sends on to another."""
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= ENTRIES


def test_every_code_of_readiness_has_its_cause() -> None:
    """What `/health/ready` says is looked up there."""
    assert [code for code in (*CODES, "starting", "draining") if f"`{code}`" not in RUNBOOK] == []
