"""What a run is held to before anything is rented for it: time, dollars, a policy, an account's limits, room at home."""
