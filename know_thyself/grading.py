"""Is this answer right? A pure reading of text: no model, no network, no randomness.

`match_alias` is the built-in grader; `load_grader` plugs in another. Regrading costs no sampling.
"""

from __future__ import annotations

import importlib
import inspect
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from know_thyself.digests import SHORT, digest_file
from know_thyself.errors import ConfigError, first_line
from know_thyself.prompts import extract_answer
from know_thyself.types import Finish, Grade, Trial

GRADER = "alias-1"
"""Name and version of the built-in grader, part of stage digests: raise it when a grade can change, by `extract_answer` too."""

Grader = Callable[[str, Sequence[str]], str | None]
"""(a model's reply, accepted answers) -> the accepted answer that it hit, None when it is wrong."""

LONGEST_FAULT = 200
"""Characters kept of why a trial could not be graded."""

_UNDECOMPOSED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i", "&": " and ", "−": "-"}
)
_PILE = re.compile(r"([^\w\s\x00-\x7f]{30})[^\w\s\x00-\x7f]+")
"""More marks upon one letter than any script has: putting n of them in canonical order takes n² steps."""
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d)")
_ARTICLE = re.compile(r"(?<![^\s\"'“‘(\[*])(?:a|an|the)\s+(?=[\"'“‘*]?\w)")
_LOOSE_MARK = re.compile(r"(?<!\d)\.|\.(?!\d)|(?<=\w)-|-(?!\d)")


def _letters(text: str) -> str:
    """`text`, decomposed, with all but letters, numbers, points and signs spaced; marks stay on letters that are not Latin."""
    kept, base = [], ""
    for char in text:
        kind = unicodedata.category(char)
        if kind[0] == "M":
            kept.append(char if base.isalpha() and not unicodedata.name(base, "").startswith("LATIN") else "")
        elif kind != "Cf":  # zero-width characters and direction marks vanish: they part no words
            base = char if char.isalnum() else ""
            kept.append(char if base or char in ".-" else " ")
    return unicodedata.normalize("NFC", "".join(kept))


@lru_cache(maxsize=64)  # a short reply is its own answer, claim and clause: read once, and few kept, for replies can be long
def normalise(text: str, articles: bool = False) -> str:
    """`text` as it is compared: words parted by single spaces.

    NFKC, casefold, Latin accents folded, punctuation and symbols spaced, letters of every script kept; "&" reads "and"; a
    number keeps its sign and point and loses its thousands commas. Unless `articles`, English articles directly before a
    word are dropped ("the Beatles", not "vitamin A"). Linear in the length of `text`; never raises.
    """
    composed = unicodedata.normalize("NFKC", _PILE.sub(r"\1", text))
    folded = unicodedata.normalize("NFD", composed.casefold()).translate(_UNDECOMPOSED)
    folded = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), folded)
    if not articles:
        folded = _ARTICLE.sub("", folded)
    return " ".join(_letters(_LOOSE_MARK.sub(" ", folded)).split())


_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SPELLED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_SCALED = rf"((?: (?:{'|'.join(_SCALES)}))*)(?!\S)"
_NUMBERS = (re.compile(rf"(?<!\S)(-?\d+(?:\.\d+)?){_SCALED}"), re.compile(rf"(?<!\S)({'|'.join(_SPELLED)}){_SCALED}"))
_DAY_OF_DATE = re.compile(
    r"\b(?:\d{1,2} )?((?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6})(?: \d{1,2})?(?= \d{4}\b)"
)


def _value(match: re.Match[str]) -> Decimal:
    digits = str(_SPELLED.index(match[1])) if match[1] in _SPELLED else match[1]
    return Decimal(f"{digits}e{sum(_SCALES[scale] for scale in match[2].split())}")


def _numbers(words: str) -> list[Decimal]:
    """The numbers among normalised `words`: in digits, else spelled up to twenty. The day of a full date is not one."""
    dated = _DAY_OF_DATE.sub(r"\1", words)
    found = ([_value(match) for match in pattern.finditer(dated)] for pattern in _NUMBERS)
    return next(filter(None, found), [])


_REFUSAL = re.compile(
    r"\b(?:do|does|did)(?: not|n t|nt) (?:\w+ )?(?:know|recall|remember|have enough)\b"
    r"|\b(?:i|we)(?: a?m| a?re)? (?:not (?:\w+ )?(?:sure|certain|aware|familiar)|unsure|uncertain|unable)\b"
    r"|\b(?:cannot|can not|can t|cant|could not|couldn t|unable to|not able to) (?:be )?"
    r"(?:answer|determin|say|tell|find|provid|verif|confirm|recall|remember|identif|help|assist)"
    r"|\b(?:no|not enough|insufficient) (?:\w+ )?(?:idea|information|knowledge|clue)\b"
    r"|\b(?:is|are|was|were|it s|remains) (?:unknown|unclear|uncertain)\b|\b(?:nobody|no one) knows\b"
    r"|\bnot (?:mentioned|specified|provided|stated|known|available|applicable)\b|\bas an? (?:\w+ )?(?:ai|language model)\b"
    r"|^(?:unknown|unsure|unclear|uncertain|undetermined|not sure|not certain|none|n a|na|null|idk|dunno|(?:i m )?sorry)$"
)
_DENIAL = re.compile(
    r"\b(?:is|was|are|were|does|did|has|had)(?: not|n t|nt)(?! (?:only|just|until)\b)\b"
    r"|\b(?:cannot|can not|can t|could not|couldn t) (?:be|have)\b|\bdo(?: not|n t|nt) (?:think|believe)\b"
)
_NEGATION = re.compile(
    r"\b(?:not(?! (?:only|just|until)\b)|never|neither|nor|no(?! \d)|(?:rather|other) than|instead of)\b(?: (?!it\b)\S+){0,4}"
)
_CHOICE = re.compile(r"\bor\b")
_BUT = re.compile(r"\bbut\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[;:()\[\]—–、，؛،]|,(?!\d{3})|\s-\s")
_GAP = " | "
_COMMON = frozenset(("yes", "no", "a", "an", "the", "i", "m", "s", "t"))


def _claims(answer: str) -> list[str]:
    """The parts of `answer` around "but" that do not refuse: "I'm not sure, but Paris" claims Paris."""
    return [part for part in _BUT.split(answer) if not _REFUSAL.search(normalise(part, True))]


def _affirm(clause: str) -> str:
    """Normalised `clause` without what it denies: all of it ("Paris is not ...") or the words after "not"."""
    return _GAP if _DENIAL.search(clause) else _NEGATION.sub(_GAP, clause)


def _options(claims: Sequence[str], articles: bool) -> list[str]:
    """What `claims` affirm, normalised, one for each side of an "or"."""
    read = (" ".join(_affirm(normalise(clause, articles)) for clause in _CLAUSE.split(claim)) for claim in claims)
    options = (" ".join(option.split()) for option in _CHOICE.split(" but ".join(read)))
    return [option for option in options if option.strip("| ")]


class _Alias(NamedTuple):
    """An accepted answer as it is compared.

    `wordy`: it holds a negation, a refusal or an "or" of its own. `closed`: to be mentioned is not enough, for the word
    stands in many a sentence ("no" in "no idea", "s" in "it's").
    """

    words: str
    number: Decimal | None
    wordy: bool

    @property
    def closed(self) -> bool:
        return self.words in _COMMON


@lru_cache(maxsize=65536)
def _read(answer: str) -> _Alias:
    words = normalise(answer)
    number = next((_value(match) for pattern in _NUMBERS if (match := pattern.fullmatch(words))), None)
    wordy = any(pattern.search(words) for pattern in (_REFUSAL, _DENIAL, _NEGATION, _CHOICE))
    return _Alias(words, number, wordy)


def _mentions(words: str, alias: _Alias) -> bool:
    return f" {alias.words} " in f" {words} "


def _quotes(words: str, alias: _Alias) -> bool:
    """Whether `words` name a wordy `alias` with no negation or refusal before it."""
    before, found, _ = f" {words} ".partition(f" {alias.words} ")
    return bool(found) and not any(pattern.search(before) for pattern in (_REFUSAL, _DENIAL, _NEGATION))


def _hits(option: str, alias: _Alias) -> bool:
    """Whether `option` names `alias`: its only number equals a numeric one, other words stand in it on word boundaries."""
    if alias.number is not None:
        found = _numbers(option)
        return bool(found) and all(number == alias.number for number in found)
    return not alias.closed and _mentions(option, alias)


def _is_whole(reply: str, answer: str, alias: _Alias) -> bool:
    """Whether all of the reply, or all of the short answer but for spaces, is `alias`."""
    unspaced = alias.number is None and alias.words.replace(" ", "") == answer.replace(" ", "")
    return alias.words == reply or unspaced


def _match_options(options: Sequence[str], accepted: Mapping[str, _Alias]) -> str | None:
    """The accepted answer that the first option hits, provided that every option hits one."""
    hits = [next((answer for answer, alias in accepted.items() if _hits(option, alias)), None) for option in options]
    return hits[0] if hits and None not in hits else None


def match_alias(reply: str, answers: Sequence[str]) -> str | None:
    """The accepted answer that `reply` gives, None when it is wrong: the built-in grader.

    An accepted answer is hit when the whole reply equals it, or the short answer (`extract_answer`) names it, after
    `normalise`, on word boundaries; scripts written without spaces therefore match only whole runs. What is special:

    - yes, no, articles and "i", "m", "s", "t": the short answer, or its part before the first comma, must be that word alone.
    - numbers: equal as numbers, and the only number of the short answer ("in 1939", "4 July 1776", "1.5 million").
    - spacing of a whole short answer is ignored: "Spiderman" is "Spider-Man", "JRR Tolkien" is "J. R. R. Tolkien".
    - refusals and denied mentions are wrong, an answer after "but" is graded ("I'm not sure, but Paris" is Paris);
      "Lyon, not Paris" is Lyon.
    - hedged lists: "Paris or Lyon" is right only when both are accepted. Lists without "or" are read as mentions.
    - an accepted answer with a negation, refusal or "or" of its own ("Trick or Treat") is hit where none stands before it.

    Does not cover: other inflections and misspellings, numbers spelled beyond twenty, refusals that name the answer in a
    language other than English, longer names that hold a shorter one ("Paris Hilton" hits "Paris").
    An accepted answer that normalises to nothing is never hit. Linear in the length of the reply; never raises.
    """
    accepted = {answer: alias for answer in answers if (alias := _read(answer)).words}
    short = extract_answer(reply)
    whole, words, full = normalise(reply), normalise(short), normalise(short, True)
    claims = _claims(short)
    opening = normalise(_CLAUSE.split(claims[0].strip(), maxsplit=1)[0]).removeprefix("answer is ") if claims else ""
    for answer, alias in accepted.items():
        quoted = alias.wordy and not alias.closed and (_quotes(words, alias) or _quotes(full, alias))
        if quoted or _is_whole(whole, words, alias) or (alias.closed and alias.words == opening):
            return answer
    by_options = (_match_options(_options(claims, articles), accepted) for articles in (False, True))
    return next(filter(None, by_options), None)


def grade(trial: Trial, answers: Sequence[str], grader: Grader = match_alias, name: str = GRADER) -> Grade:
    """The grade of `trial` by `grader`, recorded under `name`.

    A trial that ended in an error cannot be graded, nor one on which `grader` raises or returns what is no answer: `correct`
    is None and `fault` tells why. A trial stopped by length is graded like any other.
    """
    matched, fault = (None, "not answered") if trial.finish is Finish.ERROR else _ask(grader, trial.text, answers)
    return Grade(
        question_id=trial.question_id,
        trial_index=trial.index,
        correct=None if fault else matched is not None,
        matched=matched,
        grader=name,
        fault=fault,
    )


def _ask(grader: Grader, reply: str, answers: Sequence[str]) -> tuple[str | None, str | None]:
    """What `grader` returns, and why that cannot be used, if it cannot."""
    try:
        matched = grader(reply, answers)
    except Exception as error:  # noqa: BLE001 - the grader is a stranger's, and its failure on one row is data
        return None, f"the grader raised {type(error).__name__}: {first_line(error)}"[:LONGEST_FAULT]
    if matched is None or isinstance(matched, str):
        return matched, None
    return None, f"the grader returned a {type(matched).__name__}, neither an accepted answer nor None"


def load_grader(spec: str) -> tuple[Grader, str]:
    """The grader that `spec` names, and the name under which its grades are recorded, another one when its module changes.

    Raises `ConfigError` for any other spelling, a module that cannot be imported, a function that is not there.
    """
    if spec == "alias":
        return match_alias, GRADER
    module, _, function = spec.partition(":")
    if not module or not function or module.startswith("."):
        raise ConfigError(f'grader={spec!r} is not a grader: use "alias", or "module:function" for one of your own')
    try:
        home = importlib.import_module(module)
        grader = getattr(home, function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"grader={spec!r} cannot be loaded ({error}): check its spelling and the import path") from error
    if not callable(grader):
        raise ConfigError(f"grader={spec!r} is not callable: name a function of (reply, accepted answers)")
    source = inspect.getsourcefile(home)
    return grader, f"{spec}@{digest_file(Path(source))[:SHORT]}" if source else spec
