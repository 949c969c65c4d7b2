"""Seconds of a job: of one micro-step, term by term, of the phases around it, and how far either is to be trusted."""
