"""The CT: file readers, Hounsfield units, attenuation, and bone."""
