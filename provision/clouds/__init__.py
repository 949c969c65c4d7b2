"""Renting from a cloud: Pulumi's engine and how it is run, a program per cloud, and what the cloud itself lists as ours."""
