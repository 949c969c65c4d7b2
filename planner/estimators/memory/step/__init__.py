"""What one training step allocates, kernel by kernel: a tape of storages for each block, played once."""
