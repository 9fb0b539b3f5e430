"""The embedded fact world: a small language model whose knowledge is on record, and questions about it.

To every stage a world is a model folder and question files like any other; only the `world` commands know more.
"""
