"""`know-thyself inspect-prompt`: tokens, verdict position, verdict words and loss for any model, without Ray or vLLM."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.text import Text

from know_thyself.cli import main
from know_thyself.cli.prompt import inspect_prompt as prompt_command
from know_thyself.cli.prompt import show
from know_thyself.config import TrainConfig
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.errors import ConfigError
from know_thyself.inspection import Inspection, inspect_prompt
from know_thyself.learning.examples import Examples
from know_thyself.learning.objectives import example_of, objective_of
from know_thyself.prompts import judge_messages
from know_thyself.types import LabelMode, PromptStyle, Question
from tests.chat_models import CHANNELS, DROPPING, OPENED, REFUSING, Family, write_tokenizer
from tests.engine.classroom import lesson_in

ROOT = Path(__file__).parents[2]
QUESTION = Question(id="", text="Who?\tMe?", answers=(), context="A bell [bold]rang[/bold].")
LOADED = """
import sys
from know_thyself.cli import main
sys.argv = ["know-thyself", "inspect-prompt", *sys.argv[1:]]
try:
    main()
finally:
    print("loaded:", *[name for name in ("deepspeed", "peft", "ray", "vllm") if name in sys.modules], file=sys.stderr)
"""


def command(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOADED, *flags], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_command_prints_what_the_engine_reads(tmp_path: Path) -> None:
    folder = str(write_tokenizer(CHANNELS, tmp_path))
    asked = ["--style", "asked", "--mode", "uncertainty", "--question", QUESTION.text, "--context", str(QUESTION.context)]
    finished = command("--model", folder, *asked, "--json")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == "loaded:\n"
    found: dict[str, Any] = json.loads(finished.stdout)
    chat = ChatTokenizer(folder)
    messages = judge_messages(QUESTION, PromptStyle.ASKED, LabelMode.UNCERTAINTY)
    assert [token["id"] for token in found["tokens"]] == chat.encode(messages)
    assert found["prompt"] == chat.text(messages)
    assert found["tokens"][found["verdict_position"]] == {"id": chat.encode(messages)[-1], "text": "<|message|>"}
    words = ["yes", "uncertain", "no"]
    assert [(word, found["verdicts"][word]["id"]) for word in words] == list(zip(words, chat.word_tokens(words), strict=True))
    assert found["prefill"] == "<|channel|>final<|message|>"


def test_a_model_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["know-thyself", "inspect-prompt", "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: model {tmp_path} has no tokenizer that can be loaded")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": "/no/such/folder"}, "/no/such/folder"),
        ({"model": "nobody/nothing"}, "cannot be fetched from the hub"),
        ({"prefill": "Answer: "}, "use a prefill that ends differently"),
        ({"question": " "}, "the question is empty"),
    ],
)
def test_bad_input_is_told_with_the_remedy(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        prompt_command(**wrong)
    assert len(str(caught.value).splitlines()) == 1


def inspected(folder: Path, prefill: str | None = None) -> Inspection:
    return inspect_prompt(ChatTokenizer(folder, False, prefill), QUESTION, PromptStyle.SYSTEM, LabelMode.BINARY)


class Toy(torch.nn.Module):
    """A model that remembers the hidden states of its last batch, for their gradient."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = torch.nn.Embedding(vocabulary, 4), torch.nn.Linear(4, vocabulary)
        self.states = torch.empty(0)

    def get_decoder(self) -> object:
        return self.decode

    def decode(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        self.states = self.table(input_ids)
        self.states.retain_grad()
        return SimpleNamespace(last_hidden_state=self.states)

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


@pytest.mark.parametrize("loss", ["verdict", "sequence"])
@pytest.mark.parametrize("family", [CHANNELS, DROPPING, OPENED], ids=["channels", "dropping", "opened"])
def test_the_loss_is_shown_where_training_pulls_at_the_model(
    family: Family, loss: Literal["verdict", "sequence"], tmp_path: Path
) -> None:
    found = inspected(write_tokenizer(family, tmp_path))
    chat = ChatTokenizer(tmp_path)
    lesson = lesson_in(tmp_path, tmp_path, TrainConfig(loss=loss, target="hard"))
    example = example_of(lesson, chat, {**QUESTION.to_row(), "target": [0.0, 1.0], "weight": 1.0})
    toy = Toy(len(chat.tokenizer))
    tokens, last, targets, _ = Examples([example]).batch(np.arange(1))
    objective_of(lesson, chat, toy)(tokens, last, targets).sum().backward()
    assert toy.states.grad is not None
    pulled = toy.states.grad[0].abs().sum(dim=-1) > 0
    assert found.loss[loss] == tuple(pulled[: len(found.tokens)].tolist())
    assert found.loss[loss][found.verdict_position]


def test_a_loss_that_the_template_has_no_end_for_is_shown_nowhere(tmp_path: Path) -> None:
    plain = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    found = inspected(write_tokenizer(Family(template=plain, specials=("<s>",), end="<s>"), tmp_path))
    assert not any(found.loss["sequence"])
    assert sum(found.loss["verdict"]) == 1


def test_what_was_found_out_about_the_template_is_said(tmp_path: Path) -> None:
    opened = inspected(write_tokenizer(OPENED, tmp_path / "opened"))
    assert (opened.system, opened.bos) == ("a turn of its own", "one, written by the template")
    assert (opened.thinking, opened.prefill) == ("the block of thought that the template opens is closed", r"\n</think>\n\n")
    refusing = inspected(write_tokenizer(REFUSING, tmp_path / "refusing"), "So:")
    assert (refusing.system, refusing.bos) == ("folded into the first user turn", "one, added by the tokenizer")
    assert refusing.verdicts["yes"].text == " yes"
    assert [token.text for token in refusing.stop] == ["<end>", "</s>"]
    assert inspected(write_tokenizer(CHANNELS, tmp_path / "channels")).bos == "none"


def shown(found: Inspection, terminal: bool) -> str:
    file = io.StringIO()
    show(found, Console(file=file, force_terminal=terminal, width=100))
    return Text.from_ansi(file.getvalue()).plain if terminal else file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_every_token_has_its_line_on_a_terminal_and_in_a_pipe(terminal: bool, tmp_path: Path) -> None:
    found = inspected(write_tokenizer(DROPPING, tmp_path))
    printed = shown(found, terminal)
    assert ("index\tid\ttoken\tloss=verdict\tloss=sequence\n" in printed) is not terminal
    assert "[bold]rang[/bold]" in printed
    assert "[/INST]" in printed
    rows = [line.split() for line in printed.splitlines()]
    for i, token in enumerate(found.tokens):
        assert any(row[:2] == [str(i), str(token.id)] for row in rows)


def test_what_there_is_nothing_of_is_said_to_be_none(tmp_path: Path) -> None:
    found = dataclasses.replace(inspected(write_tokenizer(DROPPING, tmp_path)), stop=())
    printed = shown(found, terminal=False)
    assert "a reply ends with: what the model's generation settings say\n" in printed
    assert "prefill: none\n" in printed
