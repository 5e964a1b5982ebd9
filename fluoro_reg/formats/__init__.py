"""Files and folders shared with other software: cases, cameras, poses, landmarks, views, recordings and bags."""
