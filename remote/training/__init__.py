"""The training loop and what it decides: steps that fit into memory, the learning rate, the best evaluation, when to leave."""
