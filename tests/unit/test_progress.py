"""Progress: a bar on a terminal, plain lines in a log, and one closing line either way."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from know_thyself import progress
from know_thyself.progress import Position, plain_line, watch


def test_a_plain_line_tells_position_pace_and_time_left() -> None:
    line = plain_line("judging", "questions", Position(100, 400), Position(160, 400, "loss 0.5"), 30.0)
    assert line == "judging: 160 of 400 questions, 2.0 questions/s, 120 s left, loss 0.5"


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_without_progress_no_time_left_is_guessed(seconds: float) -> None:
    line = plain_line("judging", "questions", Position(100, 400), Position(100, 400), seconds)
    assert line == "judging: 100 of 400 questions, 0.0 questions/s"


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


def written(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_ends_with_what_was_done(terminal: bool) -> None:
    target, done = console(terminal), [0]
    with watch(target, "judging", "questions", lambda: Position(done[0], 400, "loss 0.5")):
        done[0] = 400
    assert re.search(r"judging: 400 questions in \d+ s, loss 0\.5$", written(target).splitlines()[-1])


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.001)
    target = console(terminal=False)
    with watch(target, "judging", "questions", lambda: Position(7, 400)):
        while "judging: 7 of 400 questions" not in written(target):
            pass
    assert "\x1b" not in written(target)


def test_work_that_fails_is_not_said_to_be_done() -> None:
    target = console(terminal=False)
    with pytest.raises(ValueError, match="no luck"), watch(target, "judging", "questions", lambda: Position(7, 400)):
        raise ValueError("no luck")
    assert written(target) == ""
