"""Learning: plain torch and DeepSpeed beneath the training stage; nothing here knows of Ray.

What is taught (`examples`, `objectives`), in which order and how fast (`schedule`), which weights change and what they become
(`tuning`), and how that is spread over workers and kept (`zero`, `partition`, `state`, `checkpoints`) are separate; `loop`
joins them.
"""
