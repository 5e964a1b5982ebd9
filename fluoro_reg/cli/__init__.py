"""The command line `fluoro-reg`: `main` defines the program, and each subcommand has a module of its own."""

from fluoro_reg.waiting import use_passive_waiting

use_passive_waiting()
