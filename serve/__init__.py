"""The judgment service: can the model answer this? An app that is a function of its judge, and what runs it."""
