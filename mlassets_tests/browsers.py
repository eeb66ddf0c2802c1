"""A real browser for tests that look at pages: Debian's Chromium, which may talk to this machine alone."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

# Far more than it takes: what must never happen is that a slow machine fails a test.
PAGE_DEADLINE = 120_000
_SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
_LOCAL = re.compile(r"(https?|wss?)://127\.0\.0\.1:\d+/|file:///|data:|blob:|about:")


@dataclass
class Look:
    """A page, and what it did that it should not have."""

    page: Page
    left_loopback: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("these tests look at pages in Chromium, which is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_SWITCHES.split())
        yield browser
        browser.close()


@contextmanager
def looking(browser: Browser, width: int = 1500, height: int = 1200, **context: Any) -> Iterator[Look]:
    """A fresh page; no request of it may leave this machine, and it may log no error."""
    its_own: BrowserContext = browser.new_context(viewport={"width": width, "height": height}, **context)
    page = its_own.new_page()
    page.set_default_timeout(PAGE_DEADLINE)
    expect.set_options(timeout=PAGE_DEADLINE)
    look = Look(page)
    page.on("request", lambda one: None if _LOCAL.match(one.url) else look.left_loopback.append(one.url))
    page.on("websocket", lambda one: None if _LOCAL.match(one.url) else look.left_loopback.append(one.url))
    page.on("pageerror", lambda error: look.complaints.append(str(error)))
    page.on("console", lambda one: look.complaints.append(one.text) if one.type == "error" else None)
    yield look
    its_own.close()
    assert look.left_loopback == []
    assert look.complaints == []
