"""Parts that the pose regressor and the learned similarities share: input images, reference views and weights files."""
