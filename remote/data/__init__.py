"""From a file of rows to batches of token ids, labels on the answers only."""
