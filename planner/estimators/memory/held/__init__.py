"""What stays allocated from step to step: weights, optimizer states, and which share of them a rank holds."""
