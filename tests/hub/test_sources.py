"""Data sets in the hub's layout: read alike from every kind of file, and refused in one line where they cannot be."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from know_thyself.config import ColumnsConfig, DataConfig, LabelConfig, RunConfig
from know_thyself.data.rows import Loaded
from know_thyself.data.sources import SOURCES, find_source, load
from know_thyself.errors import ConfigError, DataError, HubError
from know_thyself.pipelines.dry_run import dry_run
from know_thyself.pipelines.inputs import load_questions
from know_thyself.types import Split

Rows = Sequence[Mapping[str, Any]]


def trivia(number: int, value: str = "Sinclair Lewis") -> dict[str, Any]:
    """A row as `mandarjoshi/trivia_qa` has it."""
    return {
        "question": f"Which American-born Sinclair won prize number {number}?",
        "question_id": f"tc_{number}",
        "question_source": "http://www.triviacountry.com/",
        "answer": {
            "value": value,
            "aliases": ["(Harry) Sinclair Lewis", value] if value else [],
            "normalized_value": value.lower(),
            "normalized_aliases": ["harry sinclair lewis", value.lower()] if value else [],
            "matched_wiki_entity_name": "",
            "type": "WikipediaEntity",
        },
    }


def hotpot(number: int) -> dict[str, Any]:
    """A row as `hotpotqa/hotpot_qa` has it."""
    return {
        "id": f"5a8{number}",
        "question": f"Were director {number} and Ed Wood of the same nationality?",
        "answer": "yes",
        "type": "comparison",
        "level": "hard",
        "supporting_facts": {"title": ["Ed Wood"], "sent_id": [0]},
        "context": {
            "title": ["Ed Wood", "Adam Collis"],
            "sentences": [["Edward was American.", " He made films."], [f"Adam {number} is an actor."]],
        },
    }


def natural(number: int) -> dict[str, Any]:
    """A row as `google-research-datasets/nq_open` has it."""
    return {"question": f"when was moon landing number {number}", "answer": ["14 December 1972 UTC", "December 1972"]}


def write(path: Path, rows: Rows) -> None:
    """Write `rows` as the kind of file that `path` names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows)))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def config_of(dataset: str, **data: Any) -> RunConfig:
    return RunConfig(dataset=dataset, data=DataConfig(least=1, **data))


def load_rows(folder: Path, dataset: str, rows: Rows, **data: Any) -> Loaded:
    """`rows` as training split, the last of them as validation, in the layout that a hub repository has by itself."""
    write(folder / "train.json", rows)
    write(folder / "validation.json", rows[-1:])
    return load(config_of(dataset, path=str(folder), **data))


def expect(error: type[Exception], told: str, config: RunConfig) -> None:
    with pytest.raises(error, match=told) as caught:
        load(config)
    assert len(str(caught.value).splitlines()) == 1


LAYOUTS = {
    "sharded parquet": ("{subset}/train-00000-of-00002.parquet", "{subset}/train-00001-of-00002.parquet"),
    "one parquet": ("{subset}/train.parquet",),
    "json lists": ("train.json",),
    "json lines": ("data/train-a.jsonl", "data/train-b.jsonl"),
}


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    ("dataset", "row", "answers"),
    [
        ("triviaqa", trivia, ("Sinclair Lewis", "(Harry) Sinclair Lewis", "harry sinclair lewis")),
        ("hotpotqa", hotpot, ("yes",)),
        ("nq_open", natural, ("14 December 1972 UTC", "December 1972")),
    ],
)
def test_a_local_copy_reads_alike_in_every_layout(
    dataset: str, row: Any, answers: tuple[str, ...], names: Sequence[str], tmp_path: Path
) -> None:
    subset = next(iter(SOURCES[dataset].subsets))
    for i, name in enumerate(names):
        path = tmp_path / name.format(subset=subset)
        write(path, [row(2 * i), row(2 * i + 1)])
        write(path.with_name(path.name.replace("train", "validation")), [row(100 + i)])
    loaded = load(config_of(dataset, path=str(tmp_path)))
    assert [question.text for question in loaded.train] == [row(i)["question"] for i in range(2 * len(names))]
    assert {question.answers for question in (*loaded.train, *loaded.validation)} == {answers}
    assert {question.split for question in loaded.validation} == {Split.VALIDATION}
    assert {question.dataset for question in loaded.train} == {dataset}
    assert loaded.dropped == {}


def test_ids_are_the_data_sets_own_or_the_hash_of_the_content(tmp_path: Path) -> None:
    assert [q.id for q in load_rows(tmp_path / "a", "triviaqa", [trivia(1), trivia(2)]).train] == ["tc_1", "tc_2"]
    rows = [{key: value for key, value in hotpot(i).items() if key != "id"} for i in range(3)]
    ids = [q.id for q in load_rows(tmp_path / "b", "hotpotqa", rows).train]
    assert len(set(ids)) == 3
    assert {len(name) for name in ids} == {16}


def test_another_subset_is_another_folder(tmp_path: Path) -> None:
    for number, subset in enumerate(SOURCES["triviaqa"].subsets):
        write(tmp_path / subset / "train.parquet", [trivia(number)])
        write(tmp_path / subset / "validation.parquet", [trivia(10 + number)])
    told = [
        load(config_of("triviaqa", path=str(tmp_path), **chosen)).train[0].id
        for chosen in ({}, {"subset": "unfiltered.nocontext"})
    ]
    assert told == ["tc_0", "tc_1"]
    expect(ConfigError, "'rc' is no subset of triviaqa: use rc.nocontext or unfiltered", config_of("triviaqa", subset="rc"))


def test_a_context_is_told_paragraph_by_paragraph_and_left_out_of_a_closed_book(tmp_path: Path) -> None:
    question = load_rows(tmp_path, "hotpotqa", [hotpot(1), hotpot(2)]).train[0]
    assert question.context == "Ed Wood: Edward was American. He made films.\nAdam Collis: Adam 1 is an actor."
    assert load_rows(tmp_path, "hotpotqa", [hotpot(1), hotpot(2)], closed_book=True).train[0].context is None


def test_a_closed_book_is_closed_for_files_too_and_its_ids_forget_the_context(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.jsonl", [{"question": f"{split}?", "answers": ["a"], "context": "c"}])
    opened, closed = (load(config_of(str(tmp_path), closed_book=shut)).train[0] for shut in (False, True))
    assert (opened.context, closed.context) == ("c", None)
    assert opened.id != closed.id


def test_rows_that_are_damaged_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    bad = [{**trivia(3), "answer": None}, {**trivia(4), "question": " "}]
    assert load_rows(tmp_path / "a", "triviaqa", [*bad, trivia(1)]).dropped == {"no answer": 1, "no question text": 1}
    rows = [{**hotpot(3), "context": {"title": ["one"], "sentences": []}}, hotpot(1)]
    assert load_rows(tmp_path / "b", "hotpotqa", rows).dropped == {"context is no list of titles and sentences": 1}


def test_a_data_set_whose_answers_are_all_empty_is_refused_in_one_line(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.parquet", [trivia(i, value="") for i in range(7)])
    expect(DataError, r"train holds no usable question \(7 x no answer\)", config_of("triviaqa", path=str(tmp_path)))


def test_repeated_questions_are_merged_and_the_draw_is_shuffled_by_seed(tmp_path: Path) -> None:
    rows = [{**trivia(i % 40), "question_id": f"row_{i}"} for i in range(50)]
    write(tmp_path / "train.parquet", rows)
    write(tmp_path / "validation.parquet", [trivia(0), *(trivia(100 + i) for i in range(20))])
    config = config_of("triviaqa", path=str(tmp_path), num_train=20, num_validation=5)
    drawn = load_questions(config)
    assert len(drawn.questions) == 25
    assert drawn.dropped == {"merged duplicate": 10, "in validation too": 1, "not drawn": 39 - 20 + 21 - 5}
    again, other = load_questions(config), load_questions(config.model_copy(update={"seed": 1}))
    assert again.questions == drawn.questions
    numbers = [int(q.id.split("_")[1]) for q in drawn.questions if q.split != Split.VALIDATION]
    assert max(numbers) > 20, "the first rows were taken instead of a draw"
    assert {q.id for q in other.questions} != {q.id for q in drawn.questions}


SQUAD = {"id": 1, "title": "Rome", "question": "Who?", "context": "Caesar came.", "answers": {"text": ["Caesar"], "start": [0]}}


def mapped(folder: Path, rows: Rows, **columns: str) -> Loaded:
    """`rows` read as any data set, by `columns`."""
    return load_rows(folder, "someone/some_set", rows, columns=ColumnsConfig(**columns))


def test_any_data_set_is_read_by_its_columns(tmp_path: Path) -> None:
    columns = {"question": "question", "answers": "answers.text", "context": "context", "id": "id", "group": "title"}
    question = mapped(tmp_path, [SQUAD, {**SQUAD, "id": 2, "question": "Where?"}], **columns).train[0]
    assert (question.id, question.text, question.answers) == ("1", "Who?", ("Caesar",))
    assert (question.context, question.group, question.dataset) == ("Caesar came.", "Rome", "someone/some_set")


def test_a_dot_reaches_into_lists_of_objects_and_stops_at_null(tmp_path: Path) -> None:
    full: dict[str, Any] = {"q": {"text": "Who?"}, "found": [{"text": "Caesar"}, {"text": "Julius"}]}
    loaded = mapped(tmp_path, [{"q": None, "found": None}, full], question="q.text", answers="found.text")
    assert loaded.train[0].answers == ("Caesar", "Julius")
    assert loaded.dropped == {"no question text": 1}


def test_a_table_of_texts_is_enough(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.csv", [{"prompt": f"{split}?", "gold": "Caesar", "topic": 4}])
    config = config_of("a/b", path=str(tmp_path), columns=ColumnsConfig(question="prompt", answers="gold", group="topic"))
    question = load(config).train[0]
    assert (question.text, question.answers, question.group) == ("train?", ("Caesar",), "4")


@pytest.mark.parametrize("path", ["prompt", "answers.texts", "question.text"])
def test_a_column_that_is_not_there_is_told_with_those_that_are(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data\.columns\.question\): the data set has id, title, .*answers\.text") as caught:
        mapped(tmp_path, [SQUAD], question=path, answers="answers.text")
    assert repr(path) in str(caught.value)


def test_a_name_is_the_data_set_and_a_path_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "triviaqa").mkdir()
    (tmp_path / "own" / "set").mkdir(parents=True)
    assert find_source(config_of("triviaqa")) is SOURCES["triviaqa"]
    assert [find_source(config_of(name)) for name in ("./triviaqa", "triviaqa/", "own/set", "own", "world")] == [None] * 5
    named = find_source(config_of("own/other"))
    assert named is not None
    assert named.hub == "own/other"
    expect(ConfigError, r"dataset 'trivia' is no folder .* world, triviaqa, hotpotqa, nq_open", config_of("trivia"))


@pytest.mark.parametrize(
    ("dataset", "data", "told"),
    [
        ("/some/folder", {"path": "x"}, "data.path=x is for hub data sets"),
        ("world", {"subset": "distractor"}, "data.subset=distractor is for hub"),
        ("nq_open", {"columns": ColumnsConfig(question="q")}, "nq_open has columns of its own"),
        ("nq_open", {"path": "x", "revision": "main"}, "leave one out"),
        ("nq_open", {"validation_split": "train"}, "are both 'train'"),
        ("nq_open", {"path": "/nowhere"}, "data.path=/nowhere is no folder"),
    ],
)
def test_settings_that_would_not_be_read_are_refused(dataset: str, data: dict[str, Any], told: str) -> None:
    expect(DataError if "/nowhere" in told else ConfigError, told, config_of(dataset, **data))


def test_a_local_copy_without_the_split_or_with_two_kinds_of_it_is_refused(tmp_path: Path) -> None:
    config = config_of("nq_open", path=str(tmp_path))
    expect(DataError, r"no train file .* is in .*nq_open, .*: see --data\.subset", config)
    write(tmp_path / "train.json", [natural(1)])
    expect(DataError, "no validation file", config)
    write(tmp_path / "train.parquet", [natural(1)])
    expect(DataError, r"several kinds \(\.parquet, \.json\)", config)


def test_a_damaged_local_copy_is_refused_in_one_line(tmp_path: Path) -> None:
    for content in (b"PAR1 and no more", b""):
        (tmp_path / "train.parquet").write_bytes(content)
        expect(DataError, r"train\.parquet cannot be read \(.*write it again", config_of("nq_open", path=str(tmp_path)))
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train.jsonl").write_text('{"question": "a?", "answer": ["b"]}\n{"question')
    expect(DataError, r"train\.jsonl cannot be read", config_of("nq_open", path=str(tmp_path)))


HUB_CARD = """---
configs:
- config_name: rc.nocontext
  data_files:
  - {split: train, path: filtered/train-*.parquet}
  - {split: validation, path: filtered/validation-*.parquet}
- config_name: unfiltered.nocontext
  data_files:
  - {split: train, path: whole/train-*.parquet}
  - {split: validation, path: whole/validation-*.parquet}
---
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of the hub, as repository and revision, whose repositories `datasets` finds in a folder instead."""
    import datasets

    asked: list[tuple[str, str]] = []
    whole = datasets.load_dataset

    def load_dataset(path: str, *, revision: str, **settings: Any) -> Any:
        asked.append((path, revision))
        return whole(str(tmp_path / path), **settings)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_the_hub_is_read_by_subset_revision_and_split(tmp_path: Path, hub: list[tuple[str, str]]) -> None:
    repository = tmp_path / "mandarjoshi" / "trivia_qa"
    for number, place in enumerate(("filtered", "whole")):
        write(repository / place / "train-0-of-2.parquet", [trivia(10 * number + i) for i in (1, 2)])
        write(repository / place / "train-1-of-2.parquet", [trivia(10 * number + 3)])
        write(repository / place / "validation-0-of-1.parquet", [trivia(10 * number + 4)])
    (repository / "README.md").write_text(HUB_CARD)
    plain, chosen = (
        load(config_of("triviaqa", revision="v1", **settings)) for settings in ({}, {"subset": "unfiltered.nocontext"})
    )
    assert [question.id for question in plain.train] == ["tc_1", "tc_2", "tc_3"]
    assert [question.id for question in plain.validation] == ["tc_4"]
    assert [question.id for question in chosen.train] == ["tc_11", "tc_12", "tc_13"]
    assert hub == [("mandarjoshi/trivia_qa", "v1")] * 4
    swapped = config_of("triviaqa", revision="v1", train_split="validation", validation_split="train")
    assert [question.id for question in load(swapped).train] == ["tc_4"]
    expect(DataError, "check --data.subset, --data.revision", config_of("triviaqa", revision="v1", train_split="test"))


def test_a_hub_out_of_reach_is_told_with_the_way_around_it() -> None:
    expect(HubError, r"mandarjoshi/trivia_qa cannot be read from the hub .*--data\.path", config_of("triviaqa"))


def test_a_dry_run_without_the_hub_says_so_and_tells_what_the_card_says(tmp_path: Path) -> None:
    config = config_of("hotpotqa", num_train=1000).model_copy(update={"experiments_root": tmp_path})
    told = dry_run(config)
    assert "cannot be read from the hub" in told["not_read"]
    assert told["rows_by_card"] == {"train": 90_447, "validation": 7_405}
    assert told["estimate"]["generated_tokens_at_most"] == (1000 + 7_405) * 5 * 32
    assert json.loads(json.dumps(told))["stages_done"] == []
    assert "rows_by_card" not in dry_run(config_of("someone/some_set").model_copy(update={"experiments_root": tmp_path}))


def test_a_mapped_data_set_may_hold_logs_without_answers(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = [{"prompt": f"{split} {i}?", "num_correct": i % 3, "num_trials": 2} for i in range(6)]
        (tmp_path / f"{split}.json").write_text(json.dumps(rows))
    data = DataConfig(least=1, path=str(tmp_path), columns=ColumnsConfig(question="prompt"))
    found = load_questions(RunConfig(dataset="someone/logs", label=LabelConfig(source="logs"), data=data))
    assert len(found.logs) == len(found.questions) == 12
    counted = next(found.logs[question.id] for question in found.questions if question.text == "train 4?")
    assert counted == (1, 2)
