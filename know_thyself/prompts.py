"""Every prompt we send and every reply we read: one truth for sampling, training, judging and serving.

Three places for a judge to look, the `PromptStyle`:

- `SAME`: on the answer prompt itself; only weights of its own (LoRA) tell the judge that it is one.
- `SYSTEM`: the answer prompt's user turn under a system text that asks for a verdict.
- `ASKED`: the user turn itself asks whether the question can be answered.

All end with the assistant's turn just opened: the next token is the first of the answer, or the verdict word.

A chat is asked as its last turn in the very form of a bare question, the only one that judges are trained on, with the turns
before it left as they are: what "and his wife?" means stands there. A system text of the chat follows ours, which judges are
trained to find first, in the same turn, as many templates have place for one alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from know_thyself.types import LabelMode, PromptStyle, Question, Verdict

Message = dict[str, str]

PROMPT_VERSION = "1"
"""Part of every stage's digest and of a judge's identity: raise it when any text below changes."""

ANSWER_SYSTEM = "Answer the question in a few words."
JUDGE_SYSTEM = {
    LabelMode.BINARY: "Can you answer the question? Say yes or no.",
    LabelMode.UNCERTAINTY: "Can you answer the question? Say yes, uncertain or no.",
}
JUDGE_REQUEST = {
    LabelMode.BINARY: "Can you answer this question? Say yes or no.",
    LabelMode.UNCERTAINTY: "Can you answer this question? Say yes, uncertain or no.",
}

VERDICT_WORDS: dict[LabelMode, dict[Verdict, str]] = {
    LabelMode.BINARY: {Verdict.CAN: "yes", Verdict.CANNOT: "no"},
    LabelMode.UNCERTAINTY: {Verdict.CAN: "yes", Verdict.UNCERTAIN: "uncertain", Verdict.CANNOT: "no"},
}
"""The word that speaks each verdict; their order is the order of targets and of `Judgment.probabilities`."""


def ask(question: Question) -> str:
    """The user turn that asks `question`, its context first."""
    context = f"Context: {question.context}\n\n" if question.context else ""
    return f"{context}Question: {question.text}"


def answer_messages(question: Question, history: Sequence[Message] = ()) -> list[Message]:
    """The chat that makes a model answer `question`, which came after the turns of `history`."""
    return _conversation(ANSWER_SYSTEM, history, ask(question))


def wonder_messages() -> list[Message]:
    """The chat whose user is about to ask: a model that goes on with it asks as users of its answers would."""
    return _conversation(ANSWER_SYSTEM, (), ask(Question(id="", text="", answers=())).rstrip())


def judge_messages(question: Question, style: PromptStyle, mode: LabelMode, history: Sequence[Message] = ()) -> list[Message]:
    """The chat at whose end the judge's verdict on `question`, which came after the turns of `history`, is read."""
    if style is PromptStyle.SAME:
        return answer_messages(question, history)
    if style is PromptStyle.SYSTEM:
        return _conversation(JUDGE_SYSTEM[mode], history, ask(question))
    return _conversation("", history, f"{JUDGE_REQUEST[mode]}\n\n{ask(question)}")


def _conversation(system: str, history: Sequence[Message], last: str) -> list[Message]:
    """`history` between the text `system`, which all system texts of the history follow, and the user's `last` turn."""
    told = [turn["content"] for turn in history if turn["role"] == "system"]
    text = "\n\n".join([system, *told] if system else told)
    earlier = [turn for turn in history if turn["role"] != "system"]
    return [*([{"role": "system", "content": text}] if text else []), *earlier, {"role": "user", "content": last}]


PROBE_VERSION = "1"
"""Part of the digest of what a model is asked about itself: raise it when a text of the next two functions changes."""


def number_messages(question: Question) -> list[Message]:
    """The chat that makes a model state how sure it is: the verbalised baseline (Lin et al. 2022)."""
    request = "How sure are you that you can answer this question? Say a number from 0 to 100."
    return [{"role": "user", "content": f"{request}\n\n{ask(question)}"}]


def truth_messages(question: Question, answer: str) -> list[Message]:
    """The chat at whose end "yes" or "no" says whether `answer` is right: P(True) (Kadavath et al. 2022)."""
    return [{"role": "user", "content": f"{ask(question)}\nAnswer: {answer}\n\nIs this answer right? Say yes or no."}]


def read_verdict(probabilities: Sequence[float], mode: LabelMode) -> Verdict:
    """The verdict that `probabilities` (one per verdict word) claim: the likeliest, a tie going to the more cautious."""
    verdicts = list(VERDICT_WORDS[mode])
    best = max(range(len(verdicts)), key=lambda i: (probabilities[i], i))
    return verdicts[best]


_CUE = re.compile(r"answer[\s*_]*[:：]", re.IGNORECASE)
_OPENING = re.compile(r"[\W_]*(?:\d{1,2}\.\s)?")
_SENTENCE_END = re.compile(
    r"\b(?:mr|mrs|ms|dr|st|ste|mt|ft|jr|sr|prof|rev|gen|lt|col|maj|adm|capt|sgt|gov|sen|pres|bros|vs)\."
    r"|\b(?:no|vol|op|pt|ch|ca|approx|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.(?=\s*\d)"
    r"|(?P<end>(?<=\S)(?<![.!?])(?<!\b[^\W\d_])[.!?]+[\"'”’)*]*(?=\s|$)|[。．！？।؟۔])",
    re.IGNORECASE,
)


def extract_answer(reply: str) -> str:
    """The short answer inside a model's reply.

    The first non-empty line after the last `Answer:`, cut at the first sentence end that is not inside a number or an
    initial ("J. R. R. Tolkien", "3.14", "St. Louis", "No. 5" stay whole, and so does a list number, "1. Paris"). A line without
    a letter or digit ("**") counts as empty. Empty when there is none.
    """
    tail = _CUE.split(reply)[-1]
    line = next((line.strip() for line in tail.splitlines() if any(map(str.isalnum, line))), "")
    ends = _SENTENCE_END.finditer(line, _OPENING.match(line).end())  # type: ignore[union-attr]  # it can match nothing
    end = next((match.start() for match in ends if match["end"]), len(line))
    return line[:end].strip()
