"""The C-arm: its dimensions, where it is aimed, the range of its views, and random poses."""
