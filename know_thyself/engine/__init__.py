"""The language model behind three verbs: use these weights, sample answers, judge questions."""
