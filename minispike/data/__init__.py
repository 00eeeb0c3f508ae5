"""Text: files, tokenizer, batches, overlap, the embedded corpus, and baselines."""
