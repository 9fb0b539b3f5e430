"""Chat models made by the tests: tokenizers trained in a moment, with templates that behave as those of well-known families do.

The templates are stand-ins: each has the one trait that matters (no place for a system text, a switch, an opened block of
thought, channels) and nothing else.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from know_thyself.digests import digest_json

TEXTS = [
    "Question: What is the capital of France?",
    "Answer the question in a few words.",
    "Can you answer the question? Say yes, uncertain or no.",
    "Answer: yes no uncertain final analysis system developer user assistant model",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A template, the special tokens it writes, other tokens of its own, and whether the tokenizer adds the BOS by itself."""

    template: str
    specials: tuple[str, ...]
    added: tuple[str, ...] = ()
    bos: str | None = None
    adds_bos: bool = False
    end: str


TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CHATML = Family(
    template=TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    specials=("<|im_start|>", "<|im_end|>"),
    end="<|im_end|>",
)
SWITCHED = Family(
    template=TURNS
    + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    specials=CHATML.specials,
    added=("<think>", "</think>"),
    end="<|im_end|>",
)
"""In the style of Qwen3."""
UNCLEAR = Family(
    template="{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    specials=CHATML.specials,
    added=SWITCHED.added,
    end="<|im_end|>",
)
OPENED = Family(
    template="{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
    "<|User|>{{ m.content }}{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
    specials=("<|begin|>", "<|User|>", "<|Assistant|>", "<|end|>"),
    added=SWITCHED.added,
    bos="<|begin|>",
    adds_bos=True,
    end="<|end|>",
)
"""In the style of DeepSeek-R1; it writes the BOS that its tokenizer would add as well. The newline after `<think>` survives."""
REFUSING = Family(
    template="{% if messages[0].role == 'system' %}{{ raise_exception('no system turns here') }}{% endif %}"
    "{% for m in messages %}<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}",
    specials=("<s>", "<turn>", "<end>", "</s>"),
    bos="<s>",
    adds_bos=True,
    end="</s>",
)
"""In the style of Gemma, without the BOS in the template. What ends a turn is not the end of sequence."""
DROPPING = Family(
    template="{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}",
    specials=("<s>", "[INST]", "[/INST]", "</s>"),
    bos="<s>",
    end="</s>",
)
"""In the style of the first Mistral: system turns vanish, nothing opens the assistant's turn, a blank stands before a reply."""
CHANNELS = Family(
    template="<|start|>system<|message|>Today is {{ strftime_now('%Y-%m-%d') }}.<|end|>{% for m in messages %}"
    "{% if m.role == 'system' %}<|start|>developer<|message|>{{ m.content }}<|end|>{% elif m.role == 'user' %}"
    "<|start|>user<|message|>{{ m.content }}<|end|>{% else %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    specials=("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
    end="<|return|>",
)
"""In the style of GPT-OSS."""


@functools.cache
def trained_bpe(whole_words: str) -> str:
    """A byte-level BPE in which `whole_words` are tokens, with a blank before them and without, as JSON."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    spoken = [text for word in whole_words.split() for text in (f"{word}\n", f"said {word}\n")]
    tokenizer.train_from_iterator([*TEXTS, *spoken * 20], trainer)
    return str(tokenizer.to_str())


def write_tokenizer(family: Family, folder: Path, whole_words: str = "yes no uncertain") -> Path:
    """Save a tokenizer in which `whole_words` are tokens, with the family's special tokens and template, to `folder`."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(trained_bpe(whole_words))
    tokenizer.add_special_tokens(["<|pad|>", *family.specials])
    tokenizer.add_tokens(list(family.added))
    if family.adds_bos:
        assert family.bos is not None
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, tokenizer.token_to_id(family.bos))]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=family.bos,
        eos_token=family.end,
        pad_token="<|pad|>",
        chat_template=family.template,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(str(folder))
    return folder


SMALL = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
    "eos_token_id": None,
    "bos_token_id": None,
    "use_cache": False,
}
OWN: dict[str, dict[str, object]] = {
    "qwen2": {},
    "qwen3": {"head_dim": 48},
    "gpt_oss": {
        "head_dim": 48,
        "num_key_value_heads": 1,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 16,
        "tie_word_embeddings": False,
    },
}
"""Architectures, by the name that transformers knows them by, and what each has that `SMALL` leaves open."""


def write_model(family: Family, folder: Path, architecture: str = "qwen2") -> Path:
    """A model of two layers with random weights and the family's tokenizer; it says what weights of that kind say."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    write_tokenizer(family, folder)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    torch.manual_seed(0)
    vocabulary = {"vocab_size": -(-len(tokenizer) // 8) * 8, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(architecture, **SMALL | OWN[architecture] | vocabulary, dtype=torch.float32)
    AutoModelForCausalLM.from_config(config).save_pretrained(str(folder))
    return folder


def encoding_digest(ids: list[int]) -> str:
    """The digest that the places where chats become tokens are compared by."""
    return digest_json(ids)
