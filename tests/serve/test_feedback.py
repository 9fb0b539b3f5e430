"""Was the answer right: who may tell, of which judgment, what is kept, and what happens where nothing can be written."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from know_thyself.asking import Asked
from know_thyself.errors import ConfigError, StoreError
from know_thyself.journal import read_journal
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from serve import journal as journals
from serve.ids import Judged, Signer, new_secret
from serve.journal import DAY, Journal
from serve.metrics import Meter
from serve.policy import Kept
from serve.service import Backing
from tests.serve.apps import HALF, KEYS, SURE, UNSURE, bearer, key, post, served
from tests.serve.test_errors import told

FEEDBACK = "/v1/feedback"
JUDGE = fake_card().digest[:12]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def backing(file: Path) -> Iterator[Backing]:
    """What a service with a journal in `file` stands on."""
    meter = Meter()
    with Journal(file, Kept(), meter) as journal:
        yield Backing(meter=meter, journal=journal)


def tell(client: TestClient, name: str, correct: bool = True, caller: str = "all", **more: Any) -> Any:
    return client.post(FEEDBACK, json={"id": name, "correct": correct, **more}, headers=bearer(caller))


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()


def settled(backing: Backing) -> None:
    """Wait until all that was noted before is written."""
    assert backing.journal is not None
    asyncio.run(backing.journal.keep_feedback(("settled", 0, int(time.time()), JUDGE, 0.5, False, True)))


def test_feedback_is_kept_once_and_the_last_word_holds(backing: Backing, file: Path) -> None:
    client = served(keys=KEYS, backing=backing)
    name = post(client, {"input": SURE}, **bearer("all")).json()["id"]
    for correct in (True, True, False, False):
        answer = tell(client, name, correct)
        assert answer.status_code == 200
        assert answer.json() == {"id": name, "object": "feedback", "index": 0, "correct": correct}
    ((at, judge, score, correct),) = rows(file, "SELECT at, judge, score, correct FROM feedback")
    assert (judge, score, correct) == (JUDGE, pytest.approx(fake_confidence(Asked(text=SURE)), abs=0.0021), 0)
    assert abs(at - time.time()) < 60
    assert 'kt_feedback_total{correct="true"} 2.0' in client.get("/metrics", headers=bearer("admin")).text


def test_each_of_a_list_takes_its_own_feedback(backing: Backing, file: Path) -> None:
    client = served(backing=backing)
    name = post(client, {"input": [SURE, "", UNSURE]}).json()["id"]
    assert tell(client, name, True, index=0).status_code == 200
    assert tell(client, name, False, index=2).status_code == 200
    for index in (1, 3, 127):
        assert told(tell(client, name, index=index)) == (404, "not_found_error", "judgment_not_found")
    scores = [fake_confidence(Asked(text=text)) for text in (SURE, UNSURE)]
    found = rows(file, "SELECT place, correct, score FROM feedback ORDER BY place")
    assert [row[:2] for row in found] == [(0, 1), (2, 0)]
    assert [row[2] for row in found] == pytest.approx(scores, abs=0.0021)


@pytest.mark.parametrize(
    "more", [{"index": -1}, {"index": 128}, {"correct": "yes"}, {"correct": 1}, {"correct": None}, {"note": "it was fine"}]
)
def test_feedback_of_another_shape_is_refused(more: dict[str, Any], backing: Backing, file: Path) -> None:
    client = served(backing=backing)
    name = post(client, {"input": SURE}).json()["id"]
    assert client.post(FEEDBACK, json={"id": name, "correct": True, **more}).status_code == 422
    assert rows(file, "SELECT * FROM feedback") == []


def test_the_id_of_another_is_as_unknown_as_one_that_never_was(backing: Backing, file: Path) -> None:
    tenants = [key(f"tenant{i}", *KEYS.keys[3].scopes) for i in range(8)]
    client = served(keys=KEYS.model_copy(update={"keys": (*KEYS.keys, *tenants)}), backing=backing)
    said = Judged(at=int(time.time()), judge=JUDGE, is_calibrated=True, scores=(0.5,))
    unknown = tell(client, "jdg-of-nobody")
    assert told(unknown) == (404, "not_found_error", "judgment_not_found")
    names = {tenant.name: [backing.signer.sign(tenant.name, said) for _ in range(18)] for tenant in tenants}
    with client:  # one event loop for all of them
        asked = [
            tell(client, name, caller=caller.name)
            for caller in tenants
            for owner, given in names.items()
            if owner != caller.name
            for name in given
        ]
    assert len(asked) == 1008
    assert {(answer.status_code, answer.content) for answer in asked} == {(404, unknown.content)}
    assert rows(file, "SELECT * FROM feedback") == []
    assert tell(client, names["tenant0"][0], caller="tenant0").status_code == 200


def test_an_id_that_was_made_up_is_unknown(backing: Backing, file: Path) -> None:
    client = served(keys=KEYS, backing=backing)
    said = Judged(at=int(time.time()), judge=JUDGE, is_calibrated=True, scores=(0.99,))
    for name in (Signer(new_secret()).sign("all", said), "", "jdg-", "jdg-" + "A" * 48, "../../etc/passwd"):
        body = json.dumps({"id": name, "correct": True})
        answer = client.post(FEEDBACK, content=body, headers={**bearer("all"), "Content-Type": "application/json"})
        assert told(answer) == (404, "not_found_error", "judgment_not_found")
    assert told(tell(client, "x" * 257))[0] == 422
    assert rows(file, "SELECT * FROM feedback") == []


def test_a_judgment_that_is_too_old_takes_no_feedback(backing: Backing) -> None:
    client = served(keys=KEYS, backing=backing)

    def aged(days: float) -> Any:
        at = int(time.time() - days * DAY)
        return tell(client, backing.signer.sign("all", Judged(at=at, judge=JUDGE, is_calibrated=True, scores=(0.5,))))

    assert aged(Kept().days - 0.01).status_code == 200
    assert told(aged(Kept().days + 0.01)) == (404, "not_found_error", "judgment_not_found")


def test_without_a_journal_there_is_no_feedback() -> None:
    client = served()
    name = post(client, {"input": SURE}).json()["id"]
    assert told(tell(client, name)) == (404, "not_found_error", "feedback_off")


def test_the_journal_holds_numbers_of_every_judgment_and_no_text(backing: Backing, file: Path) -> None:
    client = served(keys=KEYS, backing=backing)
    post(client, {"input": [SURE, "", UNSURE], "context": "the merger with Quorn", "threshold": 0.5}, **bearer("all"))
    settled(backing)
    sure, unsure = rows(file, "SELECT judge, confidence, p_correct, verdict, decision FROM scores ORDER BY confidence DESC")
    confidence = fake_confidence(Asked(text=SURE))
    assert sure == (JUDGE, pytest.approx(confidence), pytest.approx(confidence), "can", "answer")
    assert unsure[3:] == ("cannot", "escalate")
    whole = b"".join(path.read_bytes() for path in file.parent.iterdir())
    for text in (SURE, UNSURE, "Quorn", "all"):
        assert text.encode() not in whole


def test_what_a_judge_without_calibration_says_is_kept_as_what_it_is(backing: Backing, file: Path) -> None:
    client = served(FakeJudge(fake_card(calibration=None, thresholds=())), backing=backing)
    assert tell(client, post(client, {"input": SURE}).json()["id"]).status_code == 200
    ((score, is_calibrated),) = rows(file, "SELECT score, is_calibrated FROM feedback")
    assert (score, is_calibrated) == (pytest.approx(fake_confidence(Asked(text=SURE)), abs=0.0021), 0)
    assert rows(file, "SELECT p_correct FROM scores") == [(None,)]


def test_the_journal_keeps_the_newest_of_so_many_days_and_rows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "TRIM_EVERY", 0.0)
    now = int(time.time())
    meter = Meter()
    with Journal(file, Kept(days=2, rows=10), meter) as journal:
        journal.note_scores([(now - age, JUDGE, 0.5, 0.5, "can", "answer") for age in range(50)])
        journal.note_scores([(now - 3 * DAY, JUDGE, 0.5, 0.5, "can", "answer")])
        for age in (*range(20), 3 * DAY):
            asyncio.run(journal.keep_feedback((f"jdg-{age}", 0, now - age, JUDGE, 0.5, True, True)))
    assert rows(file, "SELECT at FROM scores ORDER BY at DESC") == [(now - age,) for age in range(10)]
    assert rows(file, "SELECT at FROM feedback ORDER BY at DESC") == [(now - age,) for age in range(10)]
    with Journal(file, Kept(days=2, rows=4), meter) as journal:
        journal.note_scores([(now, JUDGE, 0.5, 0.5, "can", "answer")])
    assert len(rows(file, "SELECT at FROM scores")) == 4


def fill_up(file: Path, backing: Backing) -> None:
    """Let the disk be full for the journal, as SQLite sees it."""
    assert backing.journal is not None
    ((pages,),) = rows(file, "PRAGMA page_count")
    backing.journal._database.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_keeps_nobody_from_judging_and_is_counted(
    backing: Backing, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = served(backing=backing)
    name = post(client, {"input": SURE}).json()["id"]
    settled(backing)
    fill_up(file, backing)
    while backing.meter.text(0).count(b'kt_journal_losses_total{table="scores"}') == 0:
        assert post(client, {"input": [SURE, HALF, UNSURE] * 40}).status_code == 200
    long_ids = [post(client, {"input": [HALF] * 128}).json()["id"] for _ in range(40)]
    refused = next(answer for name in long_ids if (answer := tell(client, name, index=5)).status_code != 200)
    assert told(refused) == (503, "server_error", "journal_failed")
    assert int(refused.headers["retry-after"]) > 0
    assert 'kt_journal_losses_total{table="feedback"}' in client.get("/metrics").text
    assert client.get("/health/ready").status_code == 200
    logged = {record.getMessage() for record in caplog.records if record.name == "serve"}
    assert logged == {"the journal cannot be written: database or disk is full"}
    assert backing.journal is not None
    backing.journal._database.execute("PRAGMA max_page_count = 1000000")
    assert tell(client, name).status_code == 200


def test_a_locked_database_keeps_nobody_from_judging_and_is_counted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "PATIENCE", 0.05)
    monkeypatch.setattr(journals, "WAITING", 4)
    meter = Meter()
    with Journal(file, Kept(), meter) as journal:
        client = served(backing=Backing(meter=meter, journal=journal))
        name = post(client, {"input": SURE}).json()["id"]
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(20):
                assert post(client, {"input": [SURE] * 8}).status_code == 200
            assert told(tell(client, name)) == (503, "server_error", "journal_failed")
            other.execute("ROLLBACK")
        began = time.monotonic()
        while tell(client, name).status_code != 200:  # as a client does that honours Retry-After: what waits is written first
            assert time.monotonic() - began < 60
            time.sleep(0.01)
    told_lost = 'kt_journal_losses_total{table="scores"} '
    (lost,) = (float(line.removeprefix(told_lost)) for line in meter.text(0).decode().splitlines() if told_lost in line)
    assert lost > 0
    assert len(rows(file, "SELECT * FROM scores")) + lost == 161


def test_what_waits_when_a_journal_is_closed_is_written(file: Path) -> None:
    with Journal(file, Kept(), Meter()) as journal:
        journal.note_scores([(1_795_600_000, JUDGE, 0.5, None, "can", "answer")] * 2000)
    assert rows(file, "SELECT count(*) FROM scores") == [(2000,)]


@pytest.mark.parametrize("kind", ["folder", "text", "nowhere"])
def test_a_file_that_cannot_be_a_journal_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a database " * 100)
    place = tmp_path / ("none/journal" if kind == "nowhere" else kind)
    with pytest.raises(ConfigError, match="cannot be the journal") as caught:
        Journal(place, Kept(), Meter())
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(StoreError, match="is no journal to read"):
        read_journal(place, JUDGE, 10)


def test_a_journal_is_read_while_it_is_written(backing: Backing, file: Path) -> None:
    client = served(backing=backing)
    for correct in (True, False, True):
        assert tell(client, post(client, {"input": HALF}).json()["id"], correct).status_code == 200
    read = read_journal(file, JUDGE, 100)
    sure = fake_confidence(Asked(text=HALF))
    assert read.confidence == pytest.approx([sure] * 3)
    assert read.p_correct == pytest.approx([sure] * 3)
    assert read.forecast == pytest.approx([sure] * 3, abs=0.0021)
    assert sorted(read.correct) == [0, 1, 1]
    assert read.of_others == 0
    assert len(read_journal(file, JUDGE, 2).confidence) == 2
    other = read_journal(file, "f" * 12, 100)
    assert (len(other.confidence), len(other.correct), other.of_others) == (0, 0, 3)
