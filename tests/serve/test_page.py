"""The page in a browser: what a person asks and sees, by mouse and by keys, on wide and narrow screens, by day and by night."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from know_thyself.errors import EngineError
from know_thyself.testing import FakeJudge, fake_card
from know_thyself.wire import MAX_INPUTS
from serve.api import create_app
from serve.auth import Keys
from serve.policy import read_policy
from tests.serve.apps import HALF, KEYS, ROUTE, SURE, UNSURE, running, served

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
HOSTILE = "<img src=x onerror=\"document.title='planted'\"><script>document.title='planted'</script>"
CARD = fake_card()


class Visit:
    """A visit to the page of a judge, that notes what the browser complains of and whom it speaks to."""

    def __init__(self, page: Page, address: str, judge: FakeJudge) -> None:
        self.page, self.address, self.judge = page, address, judge
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, width: int = 1280, scheme: str = "light") -> Page:
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        self.page.goto(self.address)
        expect(self.page.locator("#facts")).not_to_contain_text("Looking")
        return self.page

    def ask(self, question: str) -> str:
        self.page.get_by_label("Question", exact=True).fill(question)
        self.page.get_by_role("button", name="Judge", exact=True).click()
        answer = self.page.get_by_role("status", name="Judgment")
        expect(answer.locator(".asked")).to_have_text(question)
        return answer.inner_text()

    def ask_many(self, *questions: str) -> list[str]:
        self.page.get_by_label("Questions (one a line)").fill("\n".join(questions))
        self.page.get_by_role("button", name="Judge all").click()
        number = len([question for question in questions if question])
        expect(self.page.locator("#progress")).to_have_text(f"{number} of {number} judged")
        return self.page.locator("tbody tr").all_inner_texts()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def visited(browser: Browser, judge: FakeJudge, keys: Keys) -> Iterator[Visit]:
    app = create_app(judge, read_policy(), keys, loopback_only=not keys.keys)
    with running(app) as address, browser.new_context() as context:
        context.set_default_timeout(10_000)
        yield Visit(context.new_page(), address, judge)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A visit that must end without a complaint, and without a word to anyone but the service."""
    for visit in visited(browser, FakeJudge(), Keys()):
        yield visit
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith(f"{visit.address}/")] == []


@pytest.fixture
def locked(browser: Browser) -> Iterator[Visit]:
    yield from visited(browser, FakeJudge(), KEYS)


@pytest.fixture
def uncalibrated(browser: Browser) -> Iterator[Visit]:
    yield from visited(browser, FakeJudge(fake_card(calibration=None, thresholds=(), reliability=None)), Keys())


@pytest.mark.parametrize(
    ("question", "verdict", "done"),
    [(SURE, "It can answer this", "Let it answer"), (UNSURE, "It cannot answer this", "Escalate this question")],
    ids=["can", "cannot"],
)
def test_a_question_gets_verdict_probability_threshold_and_its_place_in_the_diagram(
    visit: Visit, question: str, verdict: str, done: str
) -> None:
    visit.open()
    said = visit.ask(question)
    p_correct = served().post(ROUTE, json={"input": question}).json()["data"][0]["p_correct"]
    percent = f"{100 * p_correct:.0f} %"
    assert verdict in said
    assert f"{percent} right answers to expect." in said
    assert done in said
    assert "threshold of 50 % (the default)" in said
    assert CARD.reliability is not None
    near = min(CARD.reliability.bins, key=lambda held: abs(held.p_correct - p_correct))
    caption = visit.page.locator("#caption").inner_text()
    assert caption.startswith(f"This question: {percent} forecast. Of the {near.questions} questions nearest")
    edges = visit.page.locator("svg .axis").bounding_box()
    spot = visit.page.locator("svg .spot").bounding_box()
    assert edges is not None
    assert spot is not None
    assert (spot["x"] + spot["width"] / 2 - edges["x"]) / edges["width"] == pytest.approx(p_correct, abs=0.02)
    assert 1 - (spot["y"] + spot["height"] / 2 - edges["y"]) / edges["height"] == pytest.approx(near.accuracy, abs=0.02)


def test_a_context_goes_along_with_the_question(visit: Visit) -> None:
    visit.open()
    visit.page.get_by_label("Context to answer from").fill("She was born in Quorn. " * 200)
    assert "lost its end" in visit.ask("Where was she born?")
    assert (visit.judge.asked[0][0].context or "").startswith("She was born in Quorn.")


def test_many_questions_become_a_table_that_can_be_taken_along(visit: Visit, tmp_path: Path) -> None:
    page = visit.open()
    formula = '=HYPERLINK("http://x")'
    asked = [SURE, "", UNSURE, "x " * 300, formula, *(f"What is thing {i}?" for i in range(MAX_INPUTS))]
    rows = visit.ask_many(*asked)
    assert len(rows) == MAX_INPUTS + 4
    assert rows[0].split("\t") == [SURE, "can", "98 %", "let it answer"]
    assert "at most 256 are read: shorten it" in rows[2]
    assert [len(call) for call in visit.judge.asked] == [MAX_INPUTS, 4]
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download as CSV").click()
    caught.value.save_as(tmp_path / "taken.csv")
    assert caught.value.suggested_filename == "judgments.csv"
    with (tmp_path / "taken.csv").open(newline="", encoding="utf-8") as file:
        taken = list(csv.DictReader(file))
    assert [row["question"] for row in taken[:4]] == [SURE, UNSURE, ("x " * 300).strip(), f"'{formula}"]
    assert (taken[0]["verdict"], taken[0]["decision"], taken[0]["threshold"]) == ("can", "answer", "0.5")
    assert float(taken[0]["p_correct"]) == pytest.approx(0.98, abs=0.01)
    assert (taken[2]["verdict"], taken[2]["error"]) == ("", "300 words, and at most 256 are read: shorten it")


def test_a_threshold_that_is_tried_says_what_the_curve_says(visit: Visit) -> None:
    page = visit.open()
    assert CARD.reliability is not None
    slider = page.get_by_role("slider")
    for threshold in (0, 0.37, 0.9):
        slider.fill(str(threshold))
        point = CARD.reliability.curve[round(100 * threshold)]
        assert point.accuracy is not None
        told = page.locator("#outcome").inner_text()
        assert f"Answered: {100 * point.coverage:.0f} % of all" in told
        assert f"Right: {100 * point.accuracy:.0f} % of those" in told
    slider.fill("1")
    assert "Nothing passes" in page.locator("#outcome").inner_text()


def test_keys_alone_are_enough(visit: Visit) -> None:
    page = visit.open()
    press, type_ = page.keyboard.press, page.keyboard.type
    press("Tab")
    type_(SURE)
    press("Control+Enter")
    expect(page.locator(".finding")).to_have_text("It can answer this")
    press("Control+A")
    type_(UNSURE)
    for _ in range(2):
        press("Tab")
    press("Enter")
    expect(page.locator(".finding")).to_have_text("It cannot answer this")
    press("Tab")
    press("ArrowRight")
    expect(page.locator("#at")).to_have_text("51 %")
    press("Tab")
    type_(HALF)
    press("Tab")
    press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    press("Tab")
    with page.expect_download():
        press("Enter")


def test_what_goes_wrong_is_said(browser: Browser) -> None:
    for visit in visited(browser, FakeJudge(), Keys()):
        page = visit.open()
        alert = page.get_by_role("alert")
        visit.judge.failure = EngineError("no memory at secret")
        page.get_by_label("Question", exact=True).fill(SURE)
        page.get_by_role("button", name="Judge", exact=True).click()
        expect(alert).to_have_text("the judge failed: ask again later.")
        visit.judge.failure = None
        visit.ask(SURE)
        expect(alert).to_be_hidden()
        page.route(f"**{ROUTE}", lambda route: route.abort())
        page.get_by_role("button", name="Judge", exact=True).click()
        expect(alert).to_have_text("The service cannot be reached: is it still running?")


def test_markup_in_a_question_is_text(visit: Visit) -> None:
    page = visit.open()
    assert HOSTILE in visit.ask(HOSTILE)
    assert visit.ask_many(HOSTILE)[0].startswith(HOSTILE)
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "Can it answer this? · know-thyself"


def test_a_script_that_got_in_would_not_run(browser: Browser) -> None:
    for visit in visited(browser, FakeJudge(), Keys()):
        page = visit.open()
        page.evaluate("markup => { document.getElementById('answer').innerHTML = markup; }", HOSTILE)
        expect(page.locator("#answer img")).to_have_count(1)
        page.evaluate("() => document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
        assert page.evaluate("() => window.ran") is None
        assert page.title() != "planted"
        assert any("Content Security Policy" in complaint for complaint in visit.complaints)


def test_a_judge_that_is_not_calibrated_shows_its_verdict_and_no_number(uncalibrated: Visit) -> None:
    page = uncalibrated.open()
    assert "not calibrated: it gives a verdict, and no probability" in page.locator("#facts").inner_text()
    said = uncalibrated.ask(SURE)
    assert "It can answer this" in said
    assert "no threshold can be held against it" in said
    assert "%" not in page.locator("main").inner_text()
    assert uncalibrated.ask_many(SURE)[0].split("\t")[2] == "–"
    assert uncalibrated.complaints == []


def test_a_service_with_keys_asks_for_one_and_keeps_it_nowhere(locked: Visit) -> None:
    page = locked.open()
    field = page.get_by_label("Key (stays")
    expect(page.get_by_label("Question", exact=True)).to_be_hidden()
    field.fill("nobody")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("alert")).to_contain_text("no valid key")
    field.fill("all")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    assert "It can answer this" in locked.ask(SURE)
    assert page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert "all" not in {field.input_value(), page.url.rpartition("/")[2]}
    locked.open()
    expect(page.get_by_label("Question", exact=True)).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_anyone_can_read_it_on_any_screen(visit: Visit, width: int, scheme: str) -> None:
    page = visit.open(width, scheme)
    visit.ask("W" * 200)
    visit.ask_many(SURE, "x " * 300, "W" * 200)
    page.evaluate("() => { for (const id of ['alert', 'locked']) document.getElementById(id).hidden = false; }")
    page.evaluate("() => { document.getElementById('alert').textContent = 'told'; }")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert serious == [], [(violation["id"], [node["html"] for node in violation["nodes"]]) for violation in serious]
