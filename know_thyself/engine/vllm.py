"""The engine on vLLM, inside the calling process, on a CPU or a GPU.

In mode `swap` other weights are loaded in place of the base's (merged judges; full fine-tuning); in mode `adapter` a judge is a
LoRA request beside the base. The verdict words are read as log-probabilities at one position: nothing is generated or parsed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.protocol import Chat, Decoding, EngineSpec, Reply
from know_thyself.errors import EngineError, first_line
from know_thyself.types import Finish, ModelRef

CPU_BLOCK = 32
"""Tokens per block of the key-value cache on a CPU: with the default of 128, short prompts would share no prefix."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM prepares for."""
FINISH = {"stop": Finish.STOP, "length": Finish.LENGTH}


def environment(spec: EngineSpec) -> dict[str, str]:
    """What vLLM is to read at import: in-process engine, no usage reports, cache and cores of a CPU engine."""
    settings = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    settings["VLLM_LOGGING_LEVEL"] = os.environ.get("VLLM_LOGGING_LEVEL", "WARNING")
    if spec.device == "cpu":
        settings["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(spec.cache_gib)))
        settings["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        settings["OMP_NUM_THREADS"] = str(spec.cores)
    return settings


class VllmEngine:
    """An `Engine` on one in-process `vllm.LLM`."""

    def __init__(self, spec: EngineSpec) -> None:
        os.environ |= environment(spec)
        self._spec = spec
        self.tokens_read = 0
        self._chat = ChatTokenizer(spec.base, spec.trust_remote_code, spec.prefill)
        self._used: tuple[str, str, str | None] | None = (spec.base, "", None)
        self._lora: Any = None
        self._adapters: dict[str, int] = {}
        self._llm = _start(spec)

    def use(self, model: ModelRef) -> None:
        """See `Engine.use`; raises `EngineError` when the weights do not load."""
        wanted = (model.name, model.digest if model.name != self._spec.base else "", model.adapter)
        if wanted == self._used:
            return
        self._used = None
        if self._spec.mode == "adapter":
            self._lora = self._request(model)
        else:
            self._swap(model)
        self._used = wanted

    def _request(self, model: ModelRef) -> Any:
        """The LoRA request of `model`: a new name, id and path for every adapter, as vLLM's caches are keyed by them."""
        from vllm.lora.request import LoRARequest

        if model.name != self._spec.base:
            raise EngineError(
                f"engine of {self._spec.base} in mode adapter cannot load the weights of {model.name}: use mode swap"
            )
        if model.adapter is None:
            return None
        number = self._adapters.setdefault(model.adapter, len(self._adapters) + 1)
        return LoRARequest(f"adapter-{number}", number, model.adapter)

    def _swap(self, model: ModelRef) -> None:
        if model.adapter is not None:
            raise EngineError(f"engine in mode swap cannot load adapter {model.adapter}: merge it into its base first")
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": model.name})
        if not self._llm.reset_prefix_cache():
            raise EngineError("the prefix cache could not be cleared after a change of weights: start the engine anew")

    def sample(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        """See `Engine.sample`."""
        return self._replies(self._chat.encode_all(chats), seeds, decoding)

    def go_on(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        """See `Engine.go_on`."""
        return self._replies([self._chat.encode_unended(chat) for chat in chats], seeds, decoding)

    def _replies(self, prompts: Sequence[list[int]], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        from vllm import SamplingParams

        fitting = [i for i, ids in enumerate(prompts) if len(ids) + decoding.max_tokens <= self._spec.max_model_len]
        settings = [
            SamplingParams(
                n=decoding.num_trials,
                seed=seeds[i],
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                max_tokens=decoding.max_tokens,
                stop_token_ids=list(self._chat.stop_tokens),
            )
            for i in fitting
        ]
        failed = Reply(text="", finish=Finish.ERROR, num_tokens=0)
        replies = [[failed] * decoding.num_trials for _ in prompts]
        for i, output in zip(fitting, self._generate([prompts[i] for i in fitting], settings), strict=True):
            replies[i] = [_reply(o) for o in sorted(output.outputs, key=lambda o: o.index)]
        return replies

    def judge(self, chats: Sequence[Chat], words: Sequence[str]) -> NDArray[np.float64]:
        """See `Engine.judge`."""
        from vllm import SamplingParams

        tokens = self._chat.word_tokens(words)
        prompts = self._chat.encode_all(chats)
        fitting = [i for i, ids in enumerate(prompts) if len(ids) + 1 <= self._spec.max_model_len]
        settings = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(tokens))
        read = np.full((len(chats), len(words)), np.nan)
        for i, output in zip(fitting, self._generate([prompts[i] for i in fitting], settings), strict=True):
            position = output.outputs[0].logprobs[0]
            read[i] = [position[token].logprob for token in tokens]
        return read

    def _generate(self, prompts: list[list[int]], settings: Any) -> list[Any]:
        if not prompts:
            return []
        self.tokens_read += sum(map(len, prompts))
        requests = [{"prompt_token_ids": ids} for ids in prompts]
        return list(self._llm.generate(requests, settings, use_tqdm=False, lora_request=self._lora))


def _start(spec: EngineSpec) -> Any:
    """Start vLLM; raises `EngineError` with the first line of its complaint."""
    from vllm import LLM

    try:
        return LLM(**llm_settings(spec))
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(f"vLLM cannot start {spec.base}: {first_line(error)}") from error


def llm_settings(spec: EngineSpec) -> dict[str, Any]:
    """What a `vllm.LLM` is started with for `spec`."""
    settings: dict[str, Any] = {
        "model": spec.base,
        "max_model_len": spec.max_model_len,
        "trust_remote_code": spec.trust_remote_code,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if spec.mode == "adapter":
        settings |= {
            "enable_lora": True,
            "max_lora_rank": min(rank for rank in LORA_RANKS if rank >= spec.max_lora_rank),
            "max_loras": 1,
        }
    if spec.device == "cpu":
        # A seeded request must prefill in one step: on a CPU vLLM cannot resume its random generator.
        settings |= {
            "dtype": "float32",
            "enforce_eager": True,
            "block_size": CPU_BLOCK,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(8192, spec.max_model_len),
        }
    else:
        settings |= {"gpu_memory_utilization": spec.gpu_memory}
    return settings


def _reply(output: Any) -> Reply:
    return Reply(text=output.text, finish=FINISH.get(output.finish_reason, Finish.ERROR), num_tokens=len(output.token_ids))
