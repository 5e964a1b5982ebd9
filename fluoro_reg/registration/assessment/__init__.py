"""Assessment of a registered pose: evidence, gates and covariance."""
