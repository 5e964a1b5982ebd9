"""The doctor: what a registration would see in CTs, X-rays and bags, and what they lack. Its reports name nobody."""
