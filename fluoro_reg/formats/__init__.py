"""Files and folders that other software reads or writes: cases, cameras, poses, landmarks, views, recordings and bags."""
