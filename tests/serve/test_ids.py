"""Ids that vouch for themselves: what is in them, whom they are for, and that nobody else can make one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from know_thyself.errors import ConfigError
from serve.ids import LEAST_SECRET, Judged, Signer, new_secret, read_secret

SIGNER = Signer(SecretStr("s" * LEAST_SECRET))
SCORES = st.lists(st.none() | st.integers(0, 250).map(lambda step: step / 250), min_size=1, max_size=128)


def judged(*scores: float | None) -> Judged:
    return Judged(at=1_795_600_000, judge="0123456789ab", is_calibrated=True, scores=scores or (0.84,))


@given(st.integers(0, 2**32 - 1), st.booleans(), SCORES, st.text(max_size=64).filter(lambda name: "\0" not in name))
def test_an_id_says_what_was_put_into_it(at: int, is_calibrated: bool, scores: list[float | None], tenant: str) -> None:
    told = Judged(at=at, judge="0123456789ab", is_calibrated=is_calibrated, scores=tuple(scores))
    name = SIGNER.sign("app", told)
    assert SIGNER.read("app", name) == told
    if tenant != "app":
        assert SIGNER.read(tenant, name) is None


def test_a_score_between_two_steps_comes_back_to_two_thousandths() -> None:
    for score in (0.0, 0.0019, 0.123456, 0.9981, 1.0):
        read = SIGNER.read("app", SIGNER.sign("app", judged(score)))
        assert read is not None
        assert list(read.scores) == pytest.approx([score], abs=0.002001)


def test_an_id_is_short_and_fit_for_urls_and_no_two_are_alike() -> None:
    names = {SIGNER.sign("app", judged()) for _ in range(1000)}
    assert len(names) == 1000
    for name in names:
        assert len(name) == 52
        assert name.removeprefix("jdg-").replace("-", "a").replace("_", "a").isalnum()
    assert len(SIGNER.sign("app", judged(*[0.5] * 128))) <= 256


def test_who_does_not_know_the_secret_makes_no_id() -> None:
    assert SIGNER.read("app", Signer(new_secret()).sign("app", judged())) is None


def test_no_id_with_one_character_changed_added_or_left_out_is_read() -> None:
    name = SIGNER.sign("app", judged())
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=. \n\u00e9\ud800"
    for place in range(len(name)):
        for letter in letters.replace(name[place], ""):
            assert SIGNER.read("app", name[:place] + letter + name[place + 1 :]) is None
        assert SIGNER.read("app", name[:place] + name[place + 1 :]) is None
    for letter in letters:
        assert SIGNER.read("app", name + letter) is None
        assert SIGNER.read("app", letter + name) is None


@given(st.text(max_size=120))
def test_no_text_is_an_id(text: str) -> None:
    assert SIGNER.read("app", text) is None
    assert SIGNER.read("app", "jdg-" + text) is None


def test_a_secret_is_read_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("f" * LEAST_SECRET + "\n")
    monkeypatch.setenv("KT_IDS", "e" * LEAST_SECRET)
    assert read_secret(str(tmp_path / "secret")).get_secret_value() == "f" * LEAST_SECRET
    assert read_secret("env:KT_IDS").get_secret_value() == "e" * LEAST_SECRET


@pytest.mark.parametrize("source", ["env:KT_NONE", "none.txt", "env:KT_SHORT", "short.txt", "bytes.txt"])
def test_a_secret_that_cannot_be_used_is_refused_without_its_value(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KT_SHORT", "hunter2")
    Path("short.txt").write_text("hunter2")
    Path("bytes.txt").write_bytes(b"hunter2\xff" * 10)
    with pytest.raises(ConfigError, match="secret") as caught:
        read_secret(source)
    assert source in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_secret_shows_itself_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    secret = SecretStr("hunter2" * 8)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("serve").info("%s %r", secret, vars(Signer(secret)))
    assert "hunter2" not in caplog.text
    assert "hunter2" not in Signer(secret).sign("app", judged())
