"""The networks: BERT and SpikeBERT."""
