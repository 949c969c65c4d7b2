"""What this machine holds and does: folders, whole files, processes, being asked to stop, whose a resource is."""
