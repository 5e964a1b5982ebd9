"""What is made of a pose once it is found: evidence, gates and covariance."""
