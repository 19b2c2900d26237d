"""Debian's Chromium as fixtures: one process for all tests of a folder, a page with a storage of its own for each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from support.programs import program

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """Return Debian's Chromium, without a window and without any traffic of its own."""
    chromium = os.environ.get("CHROMIUM") or program("chromium", "google-chrome")
    home: dict[str, str | float | bool] = {"HOME": str(tmp_path_factory.mktemp("chromium")), "PATH": "/usr/bin:/bin"}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS, env=home)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Return a page with a storage of its own; an exception in its scripts fails the test."""
    context = await browser.new_context(viewport={"width": 1180, "height": 860})
    page = await context.new_page()
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield page
    await context.close()
    assert errors == []
