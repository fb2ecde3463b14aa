"""What the weights that stay become: SparseGPT, ALPS, variance correction."""
