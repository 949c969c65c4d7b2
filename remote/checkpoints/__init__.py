"""What a trainer that dies leaves for the one after it: on the disk, and on its way to object storage."""
