"""Ray beneath the stages: the session they run in, and the pipeline from committed table to committed table."""
