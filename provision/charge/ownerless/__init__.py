"""What has no living owner, here or at a provider: found, told, and ended when that is asked."""
