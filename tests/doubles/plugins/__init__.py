"""Provider plugins in Python: what stands between the real engine and an emulated cloud."""
