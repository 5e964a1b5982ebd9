"""From the pixels of an X-ray to attenuation and a mask of the usable ones."""
