"""One Ray stage per file: a thin wrapper that reads committed tables, runs pure code over them and commits the result."""
