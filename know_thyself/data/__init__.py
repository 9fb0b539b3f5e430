"""Questions from wherever they are, cut into splits that share nothing."""
