"""leaderboard.html: self-contained, safe with any name, every number linked; a browser sorts and filters it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from harness.facts.records import RunRecord, write_record
from harness.reports.data_files import render_json
from harness.reports.html import render_html
from harness.reports.plots import render_plots
from harness.reports.standings import build_leaderboard

EVIL = "evil/</td><script>document.title='owned'</script>\"'&<b>مثال"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FORMULAS = {
    "scores": ["1 < 2", "x̄ ± t s/√n"],
    "costs": ["Σ hours"],
    "tasks": ["McNemar"],
    "published": ["other settings"],
}
VOID = {"wbr", "meta", "input", "br", "link", "img", "hr"}

Make = Callable[..., RunRecord]


def content_of(*records: RunRecord) -> dict[str, Any]:
    return json.loads(render_json(build_leaderboard(records)))


def page_of(*records: RunRecord, with_plots: bool = False) -> str:
    board = build_leaderboard(records)
    content = json.loads(render_json(board))
    return render_html(content, render_plots(content) if with_plots else {}, FORMULAS, board.title)


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


@pytest.fixture
def some(make_record: Make) -> list[RunRecord]:
    """Three models, one of them evil; a partial result, a lower-is-better task, a diverged run, a run not ranked."""
    return [
        *(make_record("rte", {"accuracy": value}, seed=seed) for seed, value in ((1, 0.6), (2, 0.8))),
        make_record("cola", {"matthews_correlation": 0.3}),
        make_record("rte", {"accuracy": 0.9}, model=EVIL),
        make_record("stars", {"rmse": 0.4}, facts={"suite": None}),
        make_record("stars", {"rmse": 0.5}, model=EVIL, facts={"suite": None}),
        make_record("rte", {"accuracy": 0.5}, model="c/third", recipe={"epochs": 9}),
        make_record(
            "cola", {"matthews_correlation": 0.1}, model="c/third", recipe={"epochs": 9}, data={"is_partial": True}
        ),
        make_record("wnli").model_copy(update={"status": "diverged", "metrics": {}, "error": "the loss was <nan>"}),
        make_record("rte", {"accuracy": 0.65}, spec={"data": "ab12"}, data={"fingerprint": "others"}),
    ]


def test_page_is_self_contained(some: list[RunRecord]) -> None:
    text = page_of(*some, with_plots=True)
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


def test_ids_are_unique_and_references_resolve(some: list[RunRecord]) -> None:
    text = page_of(*some, with_plots=True)
    ids = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text))
    for group in re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text):
        assert "".join(group) in ids
    assert len([svg for svg in Page(text).all("svg") if svg.get("role") == "img"]) == 3


def test_names_are_escaped(some: list[RunRecord]) -> None:
    page = Page(page_of(*some, with_plots=True))
    assert len(page.all("script")) == 1
    assert page.all("b") == []
    assert EVIL.partition("/")[2] in page.text
    assert not any("evil" in (link.get("href") or "") for link in page.all("a") if "//" in (link.get("href") or ""))


def test_each_number_links_to_its_records(some: list[RunRecord], tmp_path: Path) -> None:
    for record in some:
        write_record(record, tmp_path)
    links = {unquote(link["href"] or "") for link in Page(page_of(*some)).all("a")}
    linked = {link for link in links if link.startswith("runs/") and link != "runs/"}
    assert linked == {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "runs").glob("*/*.json")}


def test_headers_have_scopes_and_buttons(some: list[RunRecord]) -> None:
    page = Page(page_of(*some))
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))
    sortable = [head for head in page.all("th") if "data-first" in head]
    assert len(sortable) > 20
    assert len([button for button in page.all("button") if "id" not in button]) == len(sortable)
    assert all(part.get("aria-label") for part in page.all("div") if part.get("role") == "region")


def test_page_has_numbers_marks_notes_and_formulas(some: list[RunRecord]) -> None:
    text = Page(page_of(*some)).text
    for part in (
        "70.0",
        "30.0",
        "0.400",
        "90.0",
        "partial data",
        "1 < 2",
        "x̄ ± t s/√n",
        "Σ hours",
        "McNemar",
        "Not ranked",
        "diverged",
    ):
        assert part in text
    assert "10 runs of 3 models on 4 tasks" in text


def test_published_results_follow_the_own_ones_and_start_collapsed(some: list[RunRecord]) -> None:
    content = content_of(*some)
    one = dict(model="x/base", parameters_millions=None, split="validation", setting="3 epochs", source="a <paper>")
    content["references"] = [
        {**one, "task": "rte", "metric": "accuracy", "score": 0.612},
        {**one, "task": "cola", "metric": "unstated", "score": 0.5},
    ]
    page = Page(render_html(content, {}, FORMULAS, "Leaderboard"))
    published = page.text[page.text.index("Show 1 published result") :]
    assert "a <paper>" in published
    assert "settings" in published
    assert published.index("61.2") < published.index("Tasks in full")
    assert "50.0 ?" in published
    (body,) = [attributes for attributes in page.all("tbody") if attributes.get("id") == "published"]
    assert "collapsed" in (body["class"] or "").split()
    (toggle,) = [attributes for attributes in page.all("button") if attributes.get("id") == "toggle"]
    assert (toggle["aria-controls"], toggle["aria-expanded"]) == ("published", "false")


def test_page_of_a_failed_run(make_record: Make) -> None:
    lost = make_record().model_copy(update={"status": "failed", "metrics": {}, "data": None, "cost": None})
    text = Page(page_of(lost, with_plots=True)).text
    assert "1 run of 1 model on 1 task" in text
    assert "failed" in text


def test_test_mode_is_in_the_title(make_record: Make) -> None:
    assert "no benchmark results" in Page(page_of(make_record(spec={"test_mode": True}))).text


# -- in a browser ------------------------------------------------------------------------------------------------------

DRIVER = """
<script>
const steps = [];
const names = () => [...document.querySelectorAll("#board tbody:first-of-type tr")]
    .filter(row => !row.hidden).map(row => row.querySelector("th .name").textContent.slice(0, 5));
const heads = () => [...document.querySelectorAll("#board thead th")].filter(head => !head.hidden);
const head = title => heads().find(one => one.textContent.startsWith(title));
const press = title => head(title).querySelector("button").click();
const note = step => steps.push([step, names(), [...document.querySelectorAll("[aria-sort]")]
    .map(one => one.textContent.slice(0, 4) + " " + one.getAttribute("aria-sort")),
    heads().map(one => one.querySelector("button").textContent), document.getElementById("count").textContent,
    document.querySelectorAll("#board .masked").length]);
const type = text => { const box = document.getElementById("search"); box.value = text;
    box.dispatchEvent(new Event("input", {bubbles: true})); };
const tick = selector => document.querySelector(selector).click();
note("initial");
press("RTE"); note("by rte");
press("RTE"); note("by rte again");
press("stars"); note("by stars, where less is better");
press("Model"); note("by name");
type("THIRD epochs=9"); note("typed");
type("nobody"); note("typed nonsense");
const message = document.getElementById("none").hidden;
type("");
press("CoLA"); note("by cola");
tick("[name=mark][value=p]"); note("without partial data");
tick("[name=mark][value=p]");
tick("[name=task][value=rte]"); note("without rte");
const visible = () => [...document.querySelectorAll("#published tr[data-text]")]
    .filter(row => getComputedStyle(row).display !== "none").length;
const published = [visible()];
tick("#toggle"); published.push(visible(), document.getElementById("toggle").getAttribute("aria-expanded"));
tick("#toggle"); published.push(visible());
for (const task of ["cola", "stars", "wnli"]) tick(`[name=task][value=${task}]`);
note("without any task");
const themes = [];
for (const _ of [1, 2, 3]) { tick("#theme"); themes.push([document.documentElement.dataset.theme ?? "system",
    getComputedStyle(document.body).backgroundColor]); }
const outcome = document.createElement("pre");
outcome.id = "outcome";
outcome.textContent = JSON.stringify({steps, message, themes, published, errors: window.errors, title: document.title});
document.body.append(outcome);
</script>
</body>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    return path


def test_a_browser_sorts_and_filters(browser: str, some: list[RunRecord], tmp_path: Path) -> None:
    text = page_of(*some, with_plots=True)
    watch = "<head><script>window.errors = []; onerror = message => errors.push(message);</script>"
    watch += "<script>addEventListener('securitypolicyviolation', event => errors.push(event.blockedURI))</script>"
    (tmp_path / "page.html").write_text(text.replace("<head>", watch, 1).replace("</body>", DRIVER), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [browser, *flags, (tmp_path / "page.html").as_uri()]
    browsed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    match = re.search(r'<pre id="outcome">(.*?)</pre>', browsed.stdout, re.DOTALL)
    assert match, browsed.stdout[-2000:] + browsed.stderr[-2000:]
    outcome = json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    assert outcome["errors"] == []
    assert outcome["title"] == "Leaderboard"
    state = {step: values for step, *values in outcome["steps"]}
    evil = "</td>"
    assert set(state["initial"][0]) == {"bert", evil, "third"}
    assert state["initial"][1:] == [[], ["Model", "CoLA", "RTE", "WNLI", "stars"], "3 of 3 entries", 0]
    assert state["by rte"][:2] == [[evil, "bert", "third"], ["RTEa descending"]]
    assert state["by rte again"][:2] == [["third", "bert", evil], ["RTEa ascending"]]
    assert state["by stars, where less is better"][:2] == [["bert", evil, "third"], ["star ascending"]]
    assert state["by name"][0] == [evil, "bert", "third"]
    assert (state["typed"][0], state["typed"][3]) == (["third"], "1 of 3 entries")
    assert (state["typed nonsense"][0], state["typed nonsense"][3]) == ([], "0 of 3 entries")
    assert outcome["message"] is False
    assert state["by cola"][0] == ["bert", "third", evil]
    assert state["without partial data"][0][0] == "bert"
    assert state["without partial data"][4] == 1
    assert state["without rte"][2] == ["Model", "CoLA", "WNLI", "stars"]
    assert set(state["without rte"][0]) == {"bert", evil, "third"}
    assert (state["without any task"][0], state["without any task"][2]) == ([], ["Model"])
    (light, white), (dark, black), (system, _) = outcome["themes"]
    assert (light, dark, system) == ("light", "dark", "system")
    assert white != black
    before, after, expanded, again = outcome["published"]
    assert (before, expanded, again) == (0, "true", 0)
    assert after > 0
