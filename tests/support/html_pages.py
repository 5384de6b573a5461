"""HTML pages of tests: their elements and their text, and a browser that runs a script in one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VOID = {"wbr", "meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """The elements with their attributes and the text of a page, whose tags must be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.open[-3:], self.getpos())

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def check_self_containment(text: str) -> None:
    """Fails if a page may load anything, or run another script than its own."""
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form[action]")
        assert not {"src", "srcset", "action", "background"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "xlink:href"):
            link = attributes.get(name) or ""
            assert not link.startswith("//")
            if ":" in link:
                assert tag == "a"
                assert re.fullmatch(r"https://huggingface\.co/[\w.-]+/[\w.-]+", link)
    assert not re.search(r"@import|@font-face|url\((?!#)", text)
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy
    assert [script.get("type") for script in page.all("script")].count(None) == 1


def run_in_browser(text: str, script: str, folder: Path, fragment: str = "") -> Any:
    """The value that a script returns in a page, after the page's own script; `errors` has those of both.

    The test is skipped where no browser is installed.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    watch = "<script>window.errors = []; onerror = message => errors.push(message);"
    watch += "addEventListener('securitypolicyviolation', event => errors.push(event.blockedURI));</script>"
    driver = f"""<script>
    (async () => {{ {script} }})().catch(error => {{ errors.push(String(error)); }}).then(outcome => {{
        const element = document.createElement("pre");
        element.id = "outcome";
        element.textContent = JSON.stringify({{ outcome, errors }});
        document.body.append(element);
    }});</script>"""
    text = re.sub(r"script-src '[^']+'", "script-src 'unsafe-inline'", text, count=1)  # for these two scripts
    path = folder / "page.html"
    path.write_text(
        text.replace("<head>", f"<head>{watch}", 1).replace("</body>", f"{driver}</body>"), encoding="utf-8"
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    command = [browser, *flags, "--virtual-time-budget=5000", path.as_uri() + fragment]
    browsed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    match = re.search(r'<pre id="outcome">(.*?)</pre>', browsed.stdout, re.DOTALL)
    assert match, browsed.stdout[-2000:] + browsed.stderr[-2000:]
    outcome = json.loads(unescape(match[1]))
    assert outcome["errors"] == []
    return outcome["outcome"]
