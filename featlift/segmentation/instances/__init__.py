"""Objects of which each has an id of its own: affinities, agglomeration, scores."""
