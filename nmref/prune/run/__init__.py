"""From a checkpoint to a packed folder, block by block, resumable."""
