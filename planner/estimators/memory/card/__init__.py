"""What the peak means on a card: the process around it, whether it fits, and the nearest change that would."""
