"""Ray job entry points: parse, import, call."""
