"""Checkpoints and a LLaMA forward that reads like the text book.

config checkpoint    a model folder: config.json and dense or packed weights
llama                tokens -> logits, with KV cache and taps
tokenizer sampling generate   text -> ids -> text
gguf fetch           other people's files -> a model folder
"""
