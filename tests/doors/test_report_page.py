"""The report in a browser: nothing is complained of, the slider says what the scores say, text of a question stays inert."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from know_thyself.evaluation.report import render
from tests.unit.test_report import HOSTILE, make_report

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
THRESHOLD = 0.75
ACT = f"""
const slider = document.getElementById("threshold");
slider.value = "{THRESHOLD}";
slider.dispatchEvent(new Event("input"));
document.title = [document.documentElement.scrollWidth, window.innerWidth].join(" of ");
"""


def with_an_actor(page: str) -> str:
    """`page` with one more script, which its policy is told to let run, at the very end."""
    digest = base64.b64encode(hashlib.sha256(ACT.encode()).digest()).decode()
    allowed = page.replace("script-src 'sha256-", f"script-src 'sha256-{digest}' 'sha256-", 1)
    return allowed.replace("</body>", f"<script>{ACT}</script></body>")


def opened(page: str, folder: Path, width: int) -> tuple[str, str]:
    """The page as the browser has it once its scripts have run, and what the browser said."""
    (folder / "page.html").write_bytes(page.encode("utf-8", errors="replace"))
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"),
        *(f"--window-size={width},2000", "--dump-dom", (folder / "page.html").as_uri()),
    ]
    found = subprocess.run(command, capture_output=True, timeout=120, check=False)
    return found.stdout.decode(errors="replace"), found.stderr.decode(errors="replace")


def text_of(page: str, name: str) -> str:
    found = re.search(rf'id="{name}"[^>]*>(.*?)<', page)
    assert found is not None, name
    return found[1]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_slider_says_what_the_scores_say(tmp_path: Path, width: int) -> None:
    report = make_report(0.1, 0.7)
    page, said = opened(with_an_actor(render(report)), tmp_path, width)
    assert "CONSOLE" not in said, said
    scores = report.scores[1]["validation"]
    assert scores.forecast is not None
    passes = scores.forecast.round(4) >= THRESHOLD
    assert text_of(page, "coverage") == f"{100 * passes.mean():.1f} %"
    assert text_of(page, "accuracy") == f"{100 * scores.accuracy[passes].mean():.1f} %"
    assert text_of(page, "held") == f"{100 * scores.accuracy[~passes].mean():.1f} %"
    wrong, answered = (1 - scores.accuracy[passes]).sum(), passes.sum()
    cost = 0.01 + (10 * wrong + 0.1 * answered + (200 - answered)) / 200
    assert float(text_of(page, "here")) == pytest.approx(cost, abs=6e-4)
    everything = 0.1 + 10 * np.mean(1 - scores.accuracy)
    assert float(text_of(page, "all")) == pytest.approx(everything, abs=6e-4)
    assert text_of(page, "worth").startswith("A judge is worth it for this traffic: it saves ")
    wide, shown = re.findall(r"<title>(\d+) of (\d+)</title>", page)[0]
    assert int(wide) <= int(shown), "nothing is cut off at the side"


def test_the_page_as_it_is_runs_its_own_script_and_no_other(tmp_path: Path) -> None:
    page = render(make_report(0.1, 0.7))
    dom, said = opened(page, tmp_path, 1280)
    assert "CONSOLE" not in said, said
    assert text_of(dom, "at") == "0.50"
    planted = page.replace("</body>", "<script>document.title = 'planted'</script></body>")
    dom, said = opened(planted, tmp_path, 1280)
    assert "planted</title>" not in dom
    assert "Content Security Policy" in said
    assert HOSTILE not in page
