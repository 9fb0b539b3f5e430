"""Thin adapters of the HTTP client: LangGraph, LlamaIndex and LiteLLM. Each loads no more than its own framework."""
