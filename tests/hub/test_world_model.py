"""The world's model learns from documents packed into rows as if each stood alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from know_thyself.world.corpus import make_pass
from know_thyself.world.facts import make_facts
from know_thyself.world.model import ROW, _loss, batches, new_model, pack, train_tokenizer
from tests.conftest import SMALL_WORLD

FACTS = make_facts(SMALL_WORLD)


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_packing_loses_no_document_and_leaves_no_two_rows_that_fit_into_one(lengths: list[int]) -> None:
    documents = [[number] * length for number, length in enumerate(lengths)]
    rows = pack(documents, width=max(lengths))
    assert sorted(document for row in rows for document in row) == documents
    widths = [sum(map(len, row)) for row in rows]
    assert max(widths) == max(lengths)
    assert len([width for width in widths if 2 * width <= max(lengths)]) <= 1


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(make_pass(FACTS, SMALL_WORLD, 0), SMALL_WORLD.vocabulary)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A model whose tokens attend strongly: at its first weights it hardly matters what a token sees."""
    model = new_model(SMALL_WORLD, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return model


def test_packed_documents_do_not_see_one_another(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    batch = next(batches(FACTS, SMALL_WORLD, tokenizer, start=0))
    assert len(pack(batch, ROW)) < len(batch) / 2
    with torch.no_grad():
        packed = _loss(model, batch).item()
        alone = sum(_loss(model, [ids]).item() * (len(ids) - 1) for ids in batch) / sum(len(ids) - 1 for ids in batch)
        one_text = _loss(model, [[token for ids in batch for token in ids]]).item()
    assert packed == pytest.approx(alone, abs=1e-4)
    assert one_text != pytest.approx(alone, abs=1e-2)


def test_the_documents_of_a_step_do_not_depend_on_where_a_build_begins(tokenizer: PreTrainedTokenizerFast) -> None:
    whole = batches(FACTS, SMALL_WORLD, tokenizer, start=0)
    first = [next(whole) for _ in range(150)]
    for step in (0, 7, 149):
        assert next(batches(FACTS, SMALL_WORLD, tokenizer, start=step)) == first[step]
