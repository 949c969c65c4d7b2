"""What a job needs: memory by closed form or trace, RAM and disk, seconds, dollars. Pure; each answer is a breakdown."""
