"""The CT: readers, Hounsfield units, attenuation and bone."""
