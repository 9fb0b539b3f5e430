"""know-thyself: teach a language model to know, before it answers, whether it can."""

__version__ = "0.1.0"
