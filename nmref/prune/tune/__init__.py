"""Block-wise fine-tuning: backward of a block, AdamW, EBFT."""
