"""Object storage of the user's, on the controller alone: S3, Google Cloud Storage, Azure."""
