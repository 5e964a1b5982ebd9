"""Registration of several bodies in one image: each bone has its own pose, evidence and covariance."""
