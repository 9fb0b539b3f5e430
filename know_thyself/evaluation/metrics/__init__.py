"""The metrics of a judgment, one truth each: discrimination, classes, calibration, decision; `summary` brings them together.

They are computed on columns with one row per question. `confidence` is P(event) as read; `positive` says whether the event
holds; `outcome` is the measured accuracy k/n, 0..1; `forecast` is what the judge expects `outcome` to be.
A metric that the data do not define is None and `summary.summarize` gives the reason: nothing here is 0.5 or nan for want of
data. No result depends on the order of the rows: questions of equal confidence share a bin, a threshold and a risk.
"""
