"""Judging registrations: simulated X-rays with known poses, case folders, bags, and the errors of an estimate."""
