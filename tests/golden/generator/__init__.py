"""What all golden files have in common: the transformer around an attention, cases, weights, files."""
