"""Chats as tokens: the one place where a chat template is applied, for sampling, training, judging and serving.

Only the template writes its marks, the tokens that open and close turns. A mark in what someone said stays text: it is cut
after its first character, and what is before the cut is tokenised apart from what is after it. All other text is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import SystemRandom

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from know_thyself.digests import digest_json
from know_thyself.engine.protocol import Chat
from know_thyself.engine.template import BLOCKS, FINAL_CHANNEL, SYSTEM, USER, Template, fold_system, read_template, variables
from know_thyself.errors import ConfigError, first_line
from know_thyself.prompts import Message

SEAMS = "".join(map(chr, range(0xE000, 0xF900)))
"""Characters without a meaning (for private use), two of which stand at each cut until the chat is rendered."""
DRAWN = SystemRandom()


class ChatTokenizer:
    """The tokenizer of a model folder, and its chat template.

    `template` says how the template is used; `prefill` is the text that opens every reply, the given one or the template's own;
    `stop_tokens` end a turn; `digest` changes with anything that makes other tokens of a chat.
    """

    def __init__(self, folder: str | Path, trust_remote_code: bool = False, prefill: str | None = None) -> None:
        """Raises `ConfigError` when the folder holds no tokenizer, or none with a chat template that can be used."""
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
        try:
            source = str(self.tokenizer.get_chat_template())
            self.template: Template = read_template(self._render, source)
            self._mark = _pattern(self._marks(source))
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"model {folder}: {first_line(error)}") from error
        self.prefill: str = self.template.prefill if prefill is None else prefill
        self.adds_bos: bool = self._adds_bos()
        self.stop_tokens: tuple[int, ...] = self._stop_tokens()
        probe: list[Message] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
        self.digest: str = digest_json({"template": source, "prefill": self.prefill, "tokens": self.encode(probe)})

    def holds_mark(self, text: str) -> bool:
        """Whether `text` holds what would be a mark of the template if the template wrote it."""
        return self._mark.search(text) is not None

    def text(self, chat: Chat) -> str:
        """`chat` as the model reads it, up to and with the opening of the assistant's turn and the prefill."""
        turns = fold_system(chat) if self.template.folds_system else chat
        return self._render(turns, opened=True, thinking=False) + self.prefill

    def encode(self, chat: Chat) -> list[int]:
        """Token ids of `text(chat)`, with exactly one BOS where the tokenizer wants one."""
        return self.encode_all([chat])[0]

    def encode_all(self, chats: Sequence[Chat]) -> list[list[int]]:
        """Token ids of each of `chats`, in one call of the tokenizer: many at once cost less than one by one."""
        if not chats:
            return []
        parts = [self._parts(chat) for chat in chats]
        texts = [part for cut in parts for part in cut]
        encoded = iter(self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
        return [self._with_bos([number for ids in islice(encoded, len(cut)) for number in ids]) for cut in parts]

    def encode_unended(self, chat: Chat) -> list[int]:
        """Token ids of `chat` up to the end of what is said in its last turn, which may go on there."""
        *before, last = chat
        seam = _seam([turn["content"] for turn in chat])
        turns = [*before, {**last, "content": last["content"] + seam}]
        text, _, _ = self.text(turns).partition(seam)
        return self._ids(text)

    def _parts(self, chat: Chat) -> list[str]:
        """`text(chat)`, cut within each mark that someone's turn holds; whole where none does."""
        said = [turn["content"] for turn in chat]
        if not any(map(self.holds_mark, said)):
            return [self.text(chat)]
        seam = _seam(said)
        return self.text([{**turn, "content": self._cut(turn["content"], seam)} for turn in chat]).split(seam)

    def _cut(self, text: str, seam: str) -> str:
        """`text` with a `seam` after the first character of every mark in it."""
        return self._mark.sub(lambda mark: mark[0] + seam, text)

    def _marks(self, source: str) -> list[str]:
        """What turns are written with: the special tokens, and others that `source` spells out or that are about thought."""
        spelt = " ".join([source, FINAL_CHANNEL, *BLOCKS, *BLOCKS.values()])
        added = self.tokenizer.added_tokens_decoder.values()
        return [token.content for token in added if token.special or (token.content in spelt and token.content.strip())]

    def word_tokens(self, words: Sequence[str]) -> tuple[int, ...]:
        """The token that each word begins with right after the opening of the assistant's turn and the prefill.

        Raises `ConfigError` unless the words begin with distinct tokens there.
        """
        tokens = tuple(self.spoken(word)[0] for word in words)
        if len(set(tokens)) != len(tokens):
            raise ConfigError(
                f"the words {', '.join(words)} do not begin with distinct tokens after {self._opening()[-12:]!r}: use a "
                "prefill that ends differently (chat.prefill), or another model"
            )
        return tokens

    def spoken(self, word: str) -> list[int]:
        """The tokens of `word` as the assistant's first, right after the opening of its turn and the prefill.

        It follows as the template would write it, or with a blank where the prefill ends in plain text.
        Raises `ConfigError` when the tokenizer melts it into the end of the prompt.
        """
        opening = self._opening()
        before = self._ids(opening)
        seam = _seam([opening, word])
        spoken = self._cut(word, seam).split(seam)
        after = self._ids(opening + self._lead(before[-1]) + spoken[0])
        after += [number for part in spoken[1:] for number in self._plain_ids(part)]
        if after[: len(before)] != before or len(after) == len(before):
            raise ConfigError(
                f"the tokenizer melts {word!r} into the end of the prompt, {opening[-12:]!r}: use a prefill that ends "
                "differently (chat.prefill), or another model"
            )
        return after[len(before) :]

    def turn_end(self) -> int:
        """The token with which the assistant ends its turn. Raises `ConfigError` when the template sets none."""
        end = next((number for number in self._ends() if number is not None), None)
        if end is None:
            raise ConfigError(
                "the chat template ends a reply with no special token, so that none can be taught: use another model, or for "
                "a judge --train.loss verdict"
            )
        return end

    def _opening(self) -> str:
        """The end of any prompt: what a reply follows upon."""
        return self.text([{"role": "user", "content": "?"}])

    def _lead(self, last: int) -> str:
        """What stands between the end of a prompt, its token `last`, and a word."""
        if not self.prefill:
            return self.template.lead
        return "" if self.prefill[-1].isspace() or last in self.tokenizer.added_tokens_decoder else " "

    def _render(self, chat: Chat, opened: bool, thinking: bool) -> str:
        rendered = self.tokenizer.apply_chat_template(
            list(chat), tokenize=False, add_generation_prompt=opened, **variables(thinking)
        )
        return str(rendered)

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _ids(self, text: str) -> list[int]:
        return self._with_bos(self._plain_ids(text))

    def _with_bos(self, ids: list[int]) -> list[int]:
        if not self.adds_bos:
            return ids
        bos = self.tokenizer.bos_token_id
        first = next((i for i, token in enumerate(ids) if token != bos), len(ids))
        return [bos, *ids[first:]]

    def _adds_bos(self) -> bool:
        """Whether the tokenizer puts a BOS before a text by itself."""
        bos = self.tokenizer.bos_token_id
        return bos is not None and list(self.tokenizer("?")["input_ids"])[:1] == [bos]

    def _stop_tokens(self) -> tuple[int, ...]:
        """The tokens that the template ends a reply with, and the tokenizer's end of sequence."""
        return tuple(sorted({number for number in (*self._ends(), self.tokenizer.eos_token_id) if number is not None}))

    def _ends(self) -> list[int | None]:
        """The first special token of each of the template's endings of a reply."""
        special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return [next((i for i in self._plain_ids(ending) if i in special), None) for ending in self.template.endings]


def _pattern(marks: Sequence[str]) -> re.Pattern[str]:
    """Matches the first character of each of `marks`, also where one begins inside another; nothing where there are none."""
    tails: dict[str, list[str]] = {}
    for mark in marks:
        if len(mark) > 1:
            tails.setdefault(mark[0], []).append(re.escape(mark[1:]))
    return re.compile("|".join(f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in tails.items()) or r"(?!)")


def _seam(texts: Sequence[str]) -> str:
    """Two of `SEAMS`, unlike, that stand side by side in none of `texts`: nobody can foresee which, and so bring them along."""
    seam = "".join(DRAWN.sample(SEAMS, 2))
    return _seam(texts) if any(seam in text for text in texts) else seam
