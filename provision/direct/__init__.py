"""Boxes that need no Pulumi: this machine, and a host that the user already has."""
