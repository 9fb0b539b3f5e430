"""Chats as tokens: the one place where a chat template is applied, for sampling, training, judging and serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from know_thyself.engine.protocol import Chat
from know_thyself.errors import ConfigError, first_line


class ChatTokenizer:
    """The tokenizer of a model folder, and its chat template."""

    def __init__(self, folder: str | Path, trust_remote_code: bool = False, prefill: str | None = None) -> None:
        self._prefill = prefill or ""
        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"model {folder} has no tokenizer that can be loaded ({first_line(error)}): give a chat model's folder"
            ) from error
        if not self.tokenizer.chat_template:
            raise ConfigError(f"model {folder} has no chat template: give a chat model")

    def encode(self, chat: Chat) -> list[int]:
        """Token ids of `chat` up to and with the opening of the assistant's turn."""
        return self._ids(self._text(chat))

    def word_tokens(self, words: Sequence[str]) -> tuple[int, ...]:
        """The token that each word begins with right after the opening of the assistant's turn.

        Raises `ConfigError` unless the words begin with distinct tokens there.
        """
        opening = self._text([{"role": "user", "content": "?"}])
        before = self._ids(opening)
        tokens = []
        for word in words:
            after = self._ids(opening + word)
            if after[: len(before)] != before or len(after) == len(before):
                raise ConfigError(
                    f"the tokenizer melts {word!r} into the chat template: this model cannot be read at one token"
                )
            tokens.append(after[len(before)])
        if len(set(tokens)) != len(tokens):
            raise ConfigError(f"the words {', '.join(words)} begin with the same token: this model cannot tell them apart")
        return tuple(tokens)

    def _text(self, chat: Chat) -> str:
        text = self.tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
        return f"{text}{self._prefill}"

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
