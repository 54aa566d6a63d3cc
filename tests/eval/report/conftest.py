"""Every kind of page in headless Chromium; each is made when a test opens it for the first time."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.attacks.rows import AttackTable
from eval.experiment import ExperimentLoader
from eval.officer.page import statement_page
from eval.officer.seal import sealed_statement
from eval.report.attack_part import attack_page
from eval.report.build import build_report
from eval.report.page import render
from eval.report.run_data import Evidence, read_evidence
from eval.report.run_section import run_part
from tests.helpers.places import ROOT
from tests.helpers.reports import HOSTILE, NAMES, comparison_part, small_audit_page, with_clients

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
    --disable-background-networking --disable-component-update"""


@pytest.fixture(scope="package")
def plain(finished_run: Path, loader: ExperimentLoader) -> Evidence:
    """A small run."""
    return read_evidence(finished_run, loader)


@pytest.fixture(scope="package")
def hostile(plain: Evidence) -> Evidence:
    """Ten clients in three domains; the run, its classes and its domains have hostile names."""
    ten = with_clients(plain, 10)
    domains = [HOSTILE, *NAMES[:2]]
    clients = [one | {"domain": domains[i % 3]} for i, one in enumerate(ten.task["clients"])]
    named = {
        "class_names": [HOSTILE, *NAMES, *ten.class_names[1 + len(NAMES) :]],
        "domains": domains,
        "clients": clients,
    }
    scores = [replace(one, domain=domains[i % 3]) for i, one in enumerate(ten.scores)]
    return replace(ten, name=HOSTILE, task=dict(ten.task) | named, scores=tuple(scores))


@pytest.fixture(scope="package")
def sites(plain: Evidence) -> Evidence:
    """A federation whose data and models are at its sites, one of which never took part."""
    scores = (*plain.scores[:-1], replace(plain.scores[-1], unseen=True))
    task = dict(plain.task) | {"at_sites": True}
    away = replace(plain, task=task, predictions=(), zero_shot=None, scores=scores)
    return replace(away, prompts={}, global_prompt=None)


@pytest.fixture(scope="package")
def page_of(
    plain: Evidence,
    hostile: Evidence,
    sites: Evidence,
    private_run: Path,
    loader: ExperimentLoader,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """The file of a page by its kind."""
    folder = tmp_path_factory.mktemp("pages")

    def attacks() -> str:
        found = json.loads((ROOT / "docs/results/attacks.json").read_text())
        return attack_page(AttackTable.from_json(found | {"methods": found["methods"][:1]}))

    kinds: dict[str, Callable[[], str]] = {
        "run": lambda: render(HOSTILE, [run_part(hostile)]),
        "hundred": lambda: render("x", [run_part(with_clients(plain, 100))]),
        "sites": lambda: render("x", [run_part(sites)]),
        "private": lambda: build_report([private_run], loader),
        "statement": lambda: statement_page(sealed_statement(private_run, None), private_run),
        "comparison": lambda: render("x", [comparison_part(29, HOSTILE)]),
        "audit": small_audit_page,
        "attacks": attacks,
    }

    def made(kind: str) -> Path:
        file = folder / f"{kind}.html"
        if not file.exists():
            file.write_text(kinds[kind]())
        return file

    return made


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:  # Playwright's, which may be absent
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, page_of: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page by its kind; a script that fails, a name that acts or a request fails a test."""
    opened: list[Any] = []
    wrong: list[str] = []

    def opens(kind: str, width: int = 1300, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        page, address = context.new_page(), page_of(kind).as_uri()
        page.set_default_timeout(5000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda one: None if one.url == address else wrong.append(one.url[:200]))
        page.goto(address)
        opened.append(context)
        return page

    yield opens
    for context in opened:
        context.close()
    assert not wrong
